package enroll

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// patient waits without a clock: whatever passes the time happens in rest.
func patient(o JoinOptions, rest func(asked int)) JoinOptions {
	n := 0
	o.pause, o.Patience = time.Second, 25*time.Second // five times
	o.rest = func(context.Context, time.Duration) {
		n++
		rest(n)
	}
	return o
}

func approval(o *TokenOptions) { o.Approval = true }

func TestApproval(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, approval)
	var shown []string
	o := options(t, tok, "gpu-1")
	o.Waiting = func(fp string) { shown = append(shown, fp) }
	o = patient(o, func(n int) {
		list, err := ListPending(l.state)
		if err != nil || len(list) != 1 || list[0].Name != "gpu-1" || list[0].Site != "idc" || list[0].Role != discovery.RoleServer ||
			list[0].State != waitsApproval || list[0].Token != tok.ID || list[0].Fingerprint != shown[0] || !list[0].From.IsLoopback() {
			t.Errorf("waiting: %+v, %v", list, err)
		}
		if a, err := l.dir.Allocations(); err != nil || len(a.Addrs) != 1 {
			t.Errorf("an address was given before the approval: %+v, %v", a, err)
		}
		if n == 3 {
			p, err := Approve(l.state, shown[0], "user alice")
			if err != nil || p.Name != "gpu-1" || p.By != "user alice" || p.State != waitsItself {
				t.Errorf("approved: %+v, %v", p, err)
			}
		}
	})
	res := mustJoin(t, o)
	if len(shown) != 1 || shown[0] != Fingerprint(res.ID) {
		t.Errorf("shown %q, want it once: %s", shown, Fingerprint(res.ID))
	}
	if list, err := ListPending(l.state); err != nil || len(list) != 0 {
		t.Errorf("left waiting: %v, %v", list, err)
	}
	if _, err := Approve(l.state, shown[0], "user alice"); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("approved again: %v", err)
	}
	events, err := history.Read(l.state, history.Filter{Kinds: []string{eventApproved}})
	if err != nil || len(events) != 1 || events[0].Actor != "user alice" || !strings.HasPrefix(events[0].Subject, string(res.ID)) {
		t.Errorf("history: %+v, %v", events, err)
	}
}

func TestFingerprint(t *testing.T) {
	if got := Fingerprint("4f2a91c077de1b02aaaaaaaaaaaaaaaa"); got != "4f2a-91c0-77de-1b02" {
		t.Errorf("got %s", got)
	}
}

func TestServerMayRequireApproval(t *testing.T) {
	l := &lab{state: newLab(t).state}
	l.open(t, func(o *Options) { o.RequireApproval = func() bool { return true } })
	o := patient(options(t, l.token(t), "gpu-1"), func(int) {})
	_, err := join(t, o)
	wantCode(t, err, CodePending)
	list, err := ListPending(l.state)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if _, err := Approve(l.state, string(list[0].Node), "user alice"); err != nil { // by node id
		t.Fatal(err)
	}
	if res := mustJoin(t, o); res.ID != list[0].Node {
		t.Error("patience ended, and the keys were made anew")
	}
}

func TestRefusedHost(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, approval)
	o := patient(options(t, tok, "gpu-1"), func(int) {
		list, _ := ListPending(l.state)
		if _, err := Refuse(l.state, list[0].Fingerprint, "user alice"); err != nil {
			t.Error(err)
		}
		if _, err := Approve(l.state, list[0].Fingerprint, "user bob"); err == nil {
			t.Error("approved after it was refused")
		}
	})
	_, err := join(t, o)
	wantCode(t, err, CodeRefused)
	_, err = join(t, o)
	wantCode(t, err, CodeRefused)
	// The use stays spent: it would be the same guest with other keys.
	_, err = join(t, options(t, tok, "gpu-2"))
	wantCode(t, err, CodeUsedUp)
	info, err := ListTokens(l.state)
	if err != nil || len(info) != 1 || !slices.Equal(info[0].Waiting, []string{"gpu-1"}) || len(info[0].Nodes) != 0 || !info[0].Approval {
		t.Errorf("%+v, %v", info, err)
	}
	// With another token it asks anew, and is approved under the same fingerprint.
	o.Token = l.token(t, approval)
	again := patient(o, func(int) {
		list, err := ListPending(l.state)
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		if p, err := Approve(l.state, list[0].Fingerprint, "user bob"); err != nil || p.Token != o.Token.ID {
			t.Errorf("%+v, %v", p, err)
		}
	})
	mustJoin(t, again)
}

// TestPendingReserves: who waits has the use, also against hosts that would not
// have to wait.
func TestPendingReserves(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, func(o *TokenOptions) { o.Approval, o.Uses = true, 2 })
	var waiting []JoinOptions
	for _, name := range []string{"gpu-1", "gpu-2"} {
		o := patient(options(t, tok, name), func(int) {})
		_, err := join(t, o)
		wantCode(t, err, CodePending)
		waiting = append(waiting, o)
	}
	third := options(t, tok, "gpu-3")
	_, err := join(t, third)
	wantCode(t, err, CodeUsedUp)
	wantNothing(t, third.StateDir)
	list, _ := ListPending(l.state)
	for _, p := range list {
		if _, err := Approve(l.state, p.Fingerprint, "user alice"); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range waiting {
		mustJoin(t, o)
	}
	_, err = join(t, third)
	wantCode(t, err, CodeUsedUp)
}

// TestPendingOutlivesItsToken: approved after the token's end, within a day.
func TestPendingOutlivesItsToken(t *testing.T) {
	for late, want := range map[time.Duration]Code{pendingTrail: CodeOK, pendingTrail + time.Minute: CodeExpired} {
		l := newLab(t)
		tok := l.token(t, func(o *TokenOptions) { o.Approval, o.TTL = true, time.Minute })
		o := patient(options(t, tok, "gpu-1"), func(int) {})
		_, err := join(t, o)
		wantCode(t, err, CodePending)
		list, _ := ListPending(l.state)
		if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil {
			t.Fatal(err)
		}
		l.skew.Store(int64(late))
		o.now = func() time.Time { return time.Now().Add(late) }
		_, err = join(t, o)
		if want == CodeOK && err != nil {
			t.Error(err)
		}
		if want != CodeOK {
			wantCode(t, err, want)
		}
	}
}

func TestPendingRules(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, approval)
	o := patient(options(t, tok, "gpu-1"), func(int) {})
	_, err := join(t, o)
	wantCode(t, err, CodePending)
	t.Run("another name", func(t *testing.T) {
		other := o
		other.Name = "gpu-2"
		_, err := join(t, other)
		wantCode(t, err, CodeUsedUp)
	})
	t.Run("token revoked", func(t *testing.T) {
		list, _ := ListPending(l.state)
		if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil {
			t.Fatal(err)
		}
		if err := RevokeToken(l.state, tok.ID); err != nil {
			t.Fatal(err)
		}
		_, err := join(t, o)
		wantCode(t, err, CodeRevoked)
	})
	t.Run("name taken meanwhile", func(t *testing.T) {
		o := patient(options(t, l.token(t, approval), "gpu-5"), func(int) {})
		_, err := join(t, o)
		wantCode(t, err, CodePending)
		mustJoin(t, options(t, l.token(t), "gpu-5"))
		_, err = join(t, o)
		wantCode(t, err, CodeNameTaken)
	})
	t.Run("damaged", func(t *testing.T) {
		tok := l.token(t, approval)
		o := patient(options(t, tok, "gpu-6"), func(int) {})
		_, err := join(t, o)
		wantCode(t, err, CodePending)
		list, _ := ListPending(l.state)
		p := list[len(list)-1]
		if err := os.Truncate(filepath.Join(l.state, "pending", string(p.Node)+"-"+p.Token+".json"), 40); err != nil {
			t.Fatal(err)
		}
		_, err = join(t, o)
		wantCode(t, err, CodeInternal)
		_, err = join(t, options(t, tok, "gpu-7"))
		wantCode(t, err, CodeUsedUp)
		if _, err := ListPending(l.state); !errors.Is(err, statedir.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestManyPending(t *testing.T) {
	l := newLab(t)
	for i := range statedir.MaxPending {
		k, err := makeKeys(discovery.RoleServer)
		if err != nil {
			t.Fatal(err)
		}
		p := statedir.Pending{
			Node: k.id(), Token: "0011223344556677", Name: "x", Site: "idc", Role: discovery.RoleServer, WireGuard: make([]byte, 32),
			Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour),
		}
		if i == 0 {
			p.Until = time.Now().Add(-time.Minute) // forgotten to make room
		}
		if err := l.dir.SetPending(p); err != nil {
			t.Fatal(err)
		}
	}
	_, err := join(t, patient(options(t, l.token(t, approval), "gpu-1"), func(int) {}))
	wantCode(t, err, CodePending)
	_, err = join(t, options(t, l.token(t, approval), "gpu-2"))
	wantCode(t, err, CodeManyPending)
	mustJoin(t, options(t, l.token(t), "gpu-3")) // who need not wait is let in
}

// TestWaitOutlastsTheGateway: the gateway restarts while a host waits.
func TestWaitOutlastsTheGateway(t *testing.T) {
	l := newLab(t)
	o := options(t, l.token(t, approval), "gpu-1")
	away := false
	o = patient(o, func(n int) {
		away = n == 1 || n == 2
		if n == 3 {
			list, _ := ListPending(l.state)
			if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil {
				t.Error(err)
			}
		}
	})
	o.dial = dialTCP
	reach := o.dial
	o.dial = dialer(func(ctx context.Context, addr string) (net.Conn, error) {
		if away {
			return nil, errors.New("connection refused")
		}
		return reach(ctx, addr)
	})
	mustJoin(t, o)
}
