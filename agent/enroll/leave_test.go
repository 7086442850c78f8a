package enroll

import (
	"net"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

func TestLeave(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	t.Run("at home", func(t *testing.T) {
		o := options(t, l.token(t), "gpu-1")
		res := mustJoin(t, o)
		dir, err := statedir.Open(o.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first answer may be lost
			if err := Leave(t.Context(), RenewOptions{Dir: dir, Addrs: []string{l.addr}}); err != nil {
				t.Fatal(err)
			}
		}
		_, left := l.told()
		if len(left) == 0 || left[0].ID != res.ID || left[0].Name != "gpu-1" || left[0].Addr != res.Addr || !left[0].NotAfter.Equal(res.NotAfter) {
			t.Errorf("told of %+v", left)
		}
		a, err := l.dir.Allocations()
		if err != nil || find(a, res.ID) != nil {
			t.Errorf("its address is in use: %+v, %v", a, err)
		}
		l.revoke(t, res.ID) // as the house does
		told := len(left)
		if err := Leave(t.Context(), RenewOptions{Dir: dir, Addrs: []string{l.addr}}); err != nil {
			t.Error(err)
		}
		if _, left := l.told(); len(left) != told {
			t.Error("told of a node that is out")
		}
		mustJoin(t, options(t, l.token(t), "gpu-1")) // the name is free
	})
	t.Run("at another gateway", func(t *testing.T) {
		o := options(t, l.token(t), "gpu-2")
		res := mustJoin(t, o)
		dir, err := statedir.Open(o.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Leave(t.Context(), RenewOptions{Dir: dir, Addrs: []string{"127.0.0.1:1", b.addr}}); err != nil {
			t.Fatal(err)
		}
		if _, left := b.told(); len(left) != 1 || left[0].ID != res.ID {
			t.Errorf("told of %+v", left)
		}
		// Its home hears of it.
		if err := Release(l.dir, res.ID, time.Now(), left(b).NotAfter); err != nil {
			t.Error(err)
		}
	})
	t.Run("with a certificate that is over", func(t *testing.T) {
		n := joined(t, l, "gpu-3")
		at(t, pki.NodeLife+day, b)
		defer b.skew.Store(0)
		wantAnswer(t, "leave", n.asks(t, b, kindLeave), CodeOK)
		if left(b).ID != n.id {
			t.Errorf("told of %+v", left(b))
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		o := options(t, l.token(t), "gpu-4")
		mustJoin(t, o)
		dir, err := statedir.Open(o.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		for _, addrs := range [][]string{nil, {ln.Addr().String()}} {
			if err := Leave(t.Context(), RenewOptions{Dir: dir, Addrs: addrs}); err == nil {
				t.Errorf("%v: left", addrs)
			}
		}
	})
}

// left is the last node that l told of.
func left(l *lab) discovery.Identity {
	_, all := l.told()
	if len(all) == 0 {
		return discovery.Identity{}
	}
	return all[len(all)-1]
}

func TestHello(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	o := options(t, l.token(t), "gpu-1")
	res := mustJoin(t, o)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	hello := func(t *testing.T, here time.Duration, g *lab) Greeting {
		t.Helper()
		got, err := Hello(t.Context(), RenewOptions{Dir: dir, Addrs: []string{g.addr}, now: func() time.Time { return time.Now().Add(here) }})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	b.dir.Interrupt(func(name string, _ bool) error { t.Errorf("a greeting wrote %s", name); return nil })
	for _, here := range []time.Duration{0, time.Hour, -time.Hour, 400 * day, -400 * day, 20 * 365 * day} {
		got := hello(t, here, b)
		if d := (got.Skew - here).Abs(); d > got.Took/2+time.Second || got.Standing != StandingOK || got.Gateway != "gw-b" {
			t.Errorf("clock at %s: %+v", here, got)
		}
	}
	if got := hello(t, 0, l); got.Standing != StandingOK || got.Gateway != "gw-a" {
		t.Errorf("at home: %+v", got)
	}
	b.dir.Interrupt(nil)
	greeted := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.greeted)
	}
	if n := greeted(); n != 6 || b.greeted[0] != res.ID {
		t.Errorf("told of %d greetings, want 6 of %s", n, res.ID)
	}
	l.say(t, quarantine(res.ID, 1), b)
	if got := hello(t, 0, b); got.Standing != StandingQuarantined {
		t.Errorf("quarantined: %+v", got)
	}
	l.revoke(t, res.ID, b)
	if got := hello(t, 0, b); got.Standing != StandingRevoked {
		t.Errorf("revoked: %+v", got)
	}
	if n := greeted(); n != 6 {
		t.Errorf("told of %d greetings: one of who is out or apart", n)
	}
}
