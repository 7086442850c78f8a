package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
)

// tokensEnv carries tokens to a crowd, apart by blanks: command lines are
// visible to others.
const tokensEnv = "DRAWBRIDGE_LAB_TOKENS"

// joinersPlan is what a crowd of joining hosts is told.
type joinersPlan struct {
	Gateway netip.AddrPort // enrolment
	From    netip.Prefix   // source addresses, see stranger; invalid: the host's own
	Dir     string         // for their state directories
	Name    string         // of the hosts, with a number behind it
	Workers int            // at once
	Uses    int            // of each token
	Pause   time.Duration  // of a worker between joins
	For     time.Duration
}

// Joined is what became of one join.
type Joined struct {
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"` // ns
	Err   string        `json:"err,omitempty"`
}

// Join lets hosts join by the plan in a file until its time is over, with the
// tokens of the environment, and prints what became of each as a JSON array.
func Join(ctx context.Context, file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan of joiners: %w", err)
	}
	var p joinersPlan
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read plan of joiners: %w", err)
	}
	var tokens []*pki.Token
	for _, text := range strings.Fields(os.Getenv(tokensEnv)) {
		t, err := pki.ParseToken(text)
		if err != nil {
			return err
		}
		tokens = append(tokens, t)
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return fmt.Errorf("make state directories: %w", err)
	}
	return json.NewEncoder(out).Encode(p.run(ctx, tokens))
}

// run has every worker join one host after the other. It ends early when the
// tokens are used up.
func (p joinersPlan) run(ctx context.Context, tokens []*pki.Token) []Joined {
	end := time.Now().Add(p.For)
	var (
		mu      sync.Mutex // guards next and all
		next    int
		all     []Joined
		workers sync.WaitGroup
	)
	for range p.Workers {
		workers.Go(func() {
			for ctx.Err() == nil && time.Now().Before(end) {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i/p.Uses >= len(tokens) {
					return
				}
				j := p.join(ctx, tokens[i/p.Uses], i)
				mu.Lock()
				all = append(all, j)
				mu.Unlock()
				if sleep(ctx, p.Pause) != nil {
					return
				}
			}
		})
	}
	workers.Wait()
	return all
}

// join is what `drawbridge join` does on a fresh host.
func (p joinersPlan) join(ctx context.Context, t *pki.Token, i int) Joined {
	var from netip.Addr
	if p.From.IsValid() {
		from = stranger(p.From, i)
	}
	name := fmt.Sprintf("%s-%d", p.Name, i+1)
	dir := filepath.Join(p.Dir, name)
	j := Joined{Start: time.Now()}
	_, err := enroll.Join(ctx, enroll.JoinOptions{StateDir: dir, Token: t, Name: name, Dial: dialFrom(from, p.Gateway)})
	j.Took = time.Since(j.Start)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		j.Err = err.Error()
	}
	return j
}
