package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drawbridge/agent/pki"
)

const (
	// attackPatience is how long one connection is held against a gateway that
	// does not end it: above every deadline that a gateway gives a stranger.
	attackPatience = 20 * time.Second
	// maxAttackers bounds the connections at once, so that the attacker does
	// not run out of descriptors first.
	maxAttackers = 3000
	// attackDir holds the state directories of hosts with foreign tokens.
	attackDir = "attackers"
)

// attackPlan is what an attacker is told.
type attackPlan struct {
	Gateway     netip.AddrPort // enrolment
	From        netip.Prefix   // source addresses, see stranger
	Dir         string
	Connections int // in all, evenly over For
	For         time.Duration
}

// Attack is what became of a flood of connections.
type Attack struct {
	Took  time.Duration `json:"took"` // ns; until the last connection was begun
	Kinds []AttackKind  `json:"kinds"`
}

// AttackKind is what became of the connections of one kind.
type AttackKind struct {
	Kind     string `json:"kind"`
	Made     int    `json:"made"`     // begun
	Refused  int    `json:"refused"`  // ended by the gateway, or never let in
	InTime   int    `json:"in_time"`  // of those, before the last connection was begun
	Held     int    `json:"held"`     // the gateway did not end it in attackPatience
	Admitted int    `json:"admitted"` // got what it must not get
	Broken   int    `json:"broken"`   // the attacker's own fault, such as no free port
}

// total sums up the kinds.
func (a Attack) total() AttackKind {
	t := AttackKind{Kind: "all"}
	for _, k := range a.Kinds {
		t.Made += k.Made
		t.Refused += k.Refused
		t.InTime += k.InTime
		t.Held += k.Held
		t.Admitted += k.Admitted
		t.Broken += k.Broken
	}
	return t
}

// end is how one hostile connection ended.
type end int

const (
	refused end = iota
	held
	admitted
	broken
)

// attacker makes hostile connections.
type attacker struct {
	attackPlan
	token *pki.Token // well-formed, of this mesh, and unknown to the gateway
}

// Flood attacks a gateway's enrolment by the plan in a file, with the foreign
// token of the environment, and prints the [Attack] as JSON.
func Flood(ctx context.Context, file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan of attack: %w", err)
	}
	var a attacker
	if err := json.Unmarshal(b, &a.attackPlan); err != nil {
		return fmt.Errorf("read plan of attack: %w", err)
	}
	if a.token, err = pki.ParseToken(strings.TrimSpace(os.Getenv(tokensEnv))); err != nil {
		return err
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return fmt.Errorf("make state directories: %w", err)
	}
	return json.NewEncoder(out).Encode(a.run(ctx))
}

// run begins the connections evenly over the time and waits for their ends.
// When too many are open it waits, and the last ones begin later.
func (a *attacker) run(ctx context.Context) Attack {
	var (
		mu     sync.Mutex // guards kinds
		kinds  = make([]AttackKind, len(attacks))
		tasks  sync.WaitGroup
		places = make(chan struct{}, maxAttackers)
		begun  atomic.Bool // all of them
		start  = time.Now()
	)
	for i := range a.Connections {
		at := start.Add(time.Duration(i) * a.For / time.Duration(a.Connections))
		if d := time.Until(at); d > 0 && sleep(ctx, d) != nil {
			break
		}
		places <- struct{}{}
		tasks.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, attackPatience)
			defer cancel()
			how := attacks[i%len(attacks)].do(a, ctx, i)
			mu.Lock()
			defer mu.Unlock()
			kinds[i%len(attacks)].add(how, !begun.Load())
		})
	}
	begun.Store(true)
	out := Attack{Took: time.Since(start)}
	tasks.Wait()
	for i, k := range attacks {
		kinds[i].Kind = k.kind
	}
	out.Kinds = kinds
	return out
}

func (k *AttackKind) add(how end, inTime bool) {
	k.Made++
	switch how {
	case refused:
		k.Refused++
		if inTime {
			k.InTime++
		}
	case held:
		k.Held++
	case admitted:
		k.Admitted++
	case broken:
		k.Broken++
	}
}
