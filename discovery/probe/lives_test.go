package probe

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLives tells stories of boot ids: each step is a packet at a time.
func TestLives(t *testing.T) {
	type step struct {
		at   time.Duration
		boot uint64
		want change
	}
	const s = time.Second
	for _, tt := range []struct {
		name  string
		steps []step
		forks int
	}{
		{"one life", []step{{0, 1, firstLife}, {s, 1, sameLife}, {90 * s, 1, sameLife}}, 0},
		{"restarts", []step{{0, 1, firstLife}, {s, 2, newLife}, {2 * s, 3, newLife}, {3 * s, 4, newLife}, {4 * s, 5, newLife}, {5 * s, 6, newLife}}, 0},
		{"late packets of the life before", []step{{0, 1, firstLife}, {s, 2, newLife}, {s + 1, 1, lateLife}, {2 * s, 1, lateLife}, {2 * s, 2, sameLife}}, 0},
		{"a return", []step{{0, 1, firstLife}, {s, 2, newLife}, {2*s + 1, 1, oldLife}, {3 * s, 1, sameLife}}, 1},
		{"two in turn", []step{{0, 1, firstLife}, {5 * s, 2, newLife}, {10 * s, 1, oldLife}, {15 * s, 2, oldLife}, {20 * s, 1, oldLife}}, 3},
		{"two at the same time", []step{
			{0, 1, firstLife},
			{s / 10, 2, newLife},
			{s / 5, 1, lateLife},
			{s, 2, sameLife},
			{s + s/5, 1, oldLife},
			{s + s/4, 2, lateLife},
			{3 * s, 2, oldLife},
		}, 2},
		{"five in turn", []step{
			{0, 1, firstLife},
			{2 * s, 2, newLife},
			{4 * s, 3, newLife},
			{6 * s, 4, newLife},
			{8 * s, 5, newLife},
			{10 * s, 1, oldLife},
			{12 * s, 2, oldLife},
		}, 2},
		{"returns of more than a minute ago", []step{{0, 1, firstLife}, {2 * s, 2, newLife}, {4 * s, 1, oldLife}, {64 * s, 1, sameLife}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l lives
			zero := time.Unix(1000, 0)
			var now, newest time.Time
			for i, st := range tt.steps {
				now = zero.Add(st.at)
				if got := l.hear(st.boot, now); got != st.want {
					t.Errorf("step %d: %d, want %d", i, got, st.want)
				}
				if st.want == oldLife {
					newest = now
				}
			}
			n, at := l.returns(now)
			if n != tt.forks || !at.Equal(newest) {
				t.Errorf("%d returns, newest %v; want %d, %v", n, at, tt.forks, newest)
			}
		})
	}
}

// TestLivesAreBounded: no pace of returns makes the count or the memory grow.
func TestLivesAreBounded(t *testing.T) {
	var l lives
	now := time.Unix(1000, 0)
	for i := range 1000 {
		now = now.Add(1100 * time.Millisecond)
		l.hear(uint64(i%3)+1, now)
	}
	if n, at := l.returns(now); n != forksKept || !at.Equal(now) {
		t.Errorf("%d returns, newest %v before now; want %d, 0s", n, now.Sub(at), forksKept)
	}
}

// TestClone: two probers of one identity have the address in turn, as two
// copies of a WireGuard key take the session from each other.
func TestClone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(5 * time.Millisecond)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		one, two := start(t, n, "srv", "10.0.0.2", 22, nil), start(t, n, "srv", "10.0.0.2", 33, nil)
		gw.Set(wish(peerOf(one, "idc")))
		one.Set(onDemand(peerOf(gw, "")))
		two.Set(onDemand(peerOf(gw, "")))
		silent := errors.New("the other copy has the session")
		turn := func(on, off *member, d time.Duration) {
			off.conn.failSends(silent)
			on.conn.failSends(nil)
			n.hand(on.at, on.conn)
			time.Sleep(d)
		}

		// A restart is no clone, however long both are known.
		turn(one, two, 5*time.Second)
		turn(two, one, 5*time.Second)
		if o := gw.of("srv"); o.Forks != 0 || !o.Forked.IsZero() {
			t.Fatalf("after a restart: %d forks, newest %v", o.Forks, o.Forked)
		}
		var back time.Time
		for range 3 {
			back = time.Now()
			turn(one, two, 5*time.Second)
			turn(two, one, 5*time.Second)
		}
		o := gw.of("srv")
		if o.Forks != 6 {
			t.Errorf("%d forks after three rounds of both, want 6", o.Forks)
		}
		if o.Forked.Before(back.Add(5*time.Second)) || time.Since(o.Forked) > 5*time.Second {
			t.Errorf("newest fork %v ago", time.Since(o.Forked))
		}
		if c := gw.Counters(); c.Forks != 6 || c.Restarts != 1 {
			t.Errorf("%d forks and %d restarts counted, want 6 and 1", c.Forks, c.Restarts)
		}
		if age := time.Since(o.Proof); age > 600*time.Millisecond {
			t.Errorf("proof is %v old: the copies cost the path", age)
		}
		// A minute later it is history.
		time.Sleep(65 * time.Second)
		if o := gw.of("srv"); o.Forks != 0 || o.Forked.IsZero() {
			t.Errorf("a minute later: %d forks, newest %v", o.Forks, o.Forked)
		}
	})
}
