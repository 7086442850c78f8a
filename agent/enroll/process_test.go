package enroll

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// serveEnv names the state directory that a child process serves.
const serveEnv = "DRAWBRIDGE_TEST_ENROLL_SERVE"

// child is a gateway's process of its own, killed without warning.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t *testing.T, state string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], "-test.run=TestSingleUseAcrossProcesses$")}
	c.cmd.Env = append(os.Environ(), serveEnv+"="+state)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.addr = strings.TrimSpace(line)
	return c
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func serveAsChild(t *testing.T, state string) {
	dir, err := statedir.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(ln.Addr())
	parent := os.Getppid()
	go func() { // a parent that is gone kills nobody
		for os.Getppid() == parent {
			time.Sleep(time.Second)
		}
		os.Exit(1)
	}()
	t.Error(NewServer(Options{Dir: dir}).Run(context.Background(), ln))
}

// TestSingleUseAcrossProcesses has three processes serve one state directory,
// each killed again and again while hosts race for tokens.
func TestSingleUseAcrossProcesses(t *testing.T) {
	if state := os.Getenv(serveEnv); state != "" {
		serveAsChild(t, state)
		return
	}
	l := newLab(t)
	var mu sync.Mutex // guards children
	var children []*child
	for range 3 {
		children = append(children, startChild(t, l.state))
	}
	defer func() {
		for _, c := range children {
			c.kill()
		}
	}()
	rnd := rand.New(rand.NewPCG(7, 7))
	for round := range 3 {
		tok := l.token(t, func(o *TokenOptions) { o.Uses = 2 })
		const hosts = 5
		all := make([]JoinOptions, hosts)
		for i := range all {
			own := *tok
			mu.Lock()
			own.Addrs = nil
			for _, c := range children {
				own.Addrs = append(own.Addrs, c.addr)
			}
			mu.Unlock()
			rnd.Shuffle(len(own.Addrs), func(a, b int) { own.Addrs[a], own.Addrs[b] = own.Addrs[b], own.Addrs[a] })
			all[i] = options(t, &own, fmt.Sprintf("h%d-%d", round, i))
		}
		var wg sync.WaitGroup
		for _, o := range all {
			wg.Go(func() { _, _ = join(t, o) })
		}
		wg.Go(func() { // in the midst of it
			mu.Lock()
			defer mu.Unlock()
			i := rnd.IntN(len(children))
			children[i].kill()
			children[i] = startChild(t, l.state)
		})
		wg.Wait()
		checkUses(t, l, tok, all, children)
	}
}

// checkUses lets everybody ask again, and counts who is a member.
func checkUses(t *testing.T, l *lab, tok *pki.Token, all []JoinOptions, children []*child) {
	t.Helper()
	entry, err := l.dir.Token(tok.ID)
	if err != nil {
		t.Fatal(err)
	}
	members := 0
	for _, o := range all {
		own := *o.Token
		own.Addrs = nil
		for _, c := range children {
			own.Addrs = append(own.Addrs, c.addr)
		}
		o.Token = &own
		_, err := join(t, o)
		dir := mustOpen(t, o.StateDir)
		if !dir.Joined() {
			wantCode(t, err, CodeUsedUp)
			continue
		}
		members++
		id := verify(t, dir)
		after, err := l.dir.Token(tok.ID)
		if err != nil || !slices.ContainsFunc(after.Redeemed, func(r statedir.Redemption) bool { return r.Node == id.ID }) {
			t.Errorf("%s is a member, and not on disk: %v", id.Name, err)
		}
	}
	if members != 2 || len(entry.Redeemed) > 2 {
		t.Errorf("%d members by a token for 2 (%d on disk before)", members, len(entry.Redeemed))
	}
}
