package enroll

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// visitor is a guest without a connection.
func visitor(addr string) *guest {
	a := netip.MustParseAddr(addr)
	g := &guest{source: sourceOf(a), network: networkOf(a), gone: make(chan struct{})}
	g.phase.Store(phaseHello)
	return g
}

// comes has a visitor at the door.
func comes(l *limiter, addr string, now time.Time) (g, other *guest, why count) {
	g = visitor(addr)
	other, why = l.enter(g, now)
	return g, other, why
}

func TestLimiterSource(t *testing.T) {
	now := time.Unix(1000, 0)
	const src = "198.51.100.1"
	t.Run("rate", func(t *testing.T) {
		var l limiter
		for range int(sourceRate.burst) {
			g, _, why := comes(&l, src, now)
			if why != countNone {
				t.Fatalf("%v within the burst", why)
			}
			l.leave(g)
		}
		if _, _, why := comes(&l, src, now); why != countRefusedSource {
			t.Errorf("no end of the burst: %v", why)
		}
		if _, _, why := comes(&l, "198.51.100.2", now); why != countNone {
			t.Errorf("one source stops another: %v", why)
		}
		if _, _, why := comes(&l, src, now.Add(time.Second)); why != countNone {
			t.Errorf("no refill: %v", why)
		}
	})
	t.Run("refusals cost no credit", func(t *testing.T) {
		var l limiter
		for range 10000 {
			if g, _, why := comes(&l, src, now); why == countNone {
				l.leave(g)
			}
		}
		if _, _, why := comes(&l, src, now.Add(time.Second/20)); why != countNone {
			t.Errorf("after the flood: %v", why)
		}
	})
	t.Run("open", func(t *testing.T) {
		var l limiter
		var all []*guest
		for range maxSourceConns {
			g, _, _ := comes(&l, src, now)
			all = append(all, g)
		}
		later := now.Add(time.Minute)
		if _, _, why := comes(&l, src, later); why != countRefusedSource {
			t.Errorf("no bound: %v", why)
		}
		l.leave(all[0])
		if _, _, why := comes(&l, src, later); why != countNone {
			t.Errorf("one that left counts: %v", why)
		}
	})
}

func TestLimiterNetwork(t *testing.T) {
	now := time.Unix(1000, 0)
	host := func(i int) string { return fmt.Sprintf("198.51.100.%d", i%250+1) }
	t.Run("open", func(t *testing.T) {
		var l limiter
		for i := range maxNetworkConns {
			if _, _, why := comes(&l, host(i), now); why != countNone {
				t.Fatalf("%d: %v", i, why)
			}
		}
		if _, _, why := comes(&l, host(200), now); why != countRefusedNetwork {
			t.Errorf("no bound: %v", why)
		}
		if _, _, why := comes(&l, "198.51.101.1", now); why != countNone {
			t.Errorf("one network stops another: %v", why)
		}
	})
	t.Run("rate", func(t *testing.T) {
		var l limiter
		for i := range int(networkRate.burst) {
			g, _, why := comes(&l, host(i), now)
			if why != countNone {
				t.Fatalf("%d: %v", i, why)
			}
			l.leave(g)
		}
		if _, _, why := comes(&l, host(0), now); why != countRefusedNetwork {
			t.Errorf("no end of the burst: %v", why)
		}
	})
	t.Run("keys", func(t *testing.T) {
		for _, tt := range []struct{ a, source, network string }{
			{"192.0.2.7", "192.0.2.7", "192.0.2.0"},
			{"::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0"},
			{"2001:db8:1:2:3::4", "2001:db8:1:2::", "2001:db8:1::"},
			{"fe80::1%eth0", "fe80::", "fe80::"},
		} {
			g := visitor(tt.a)
			if g.source.String() != tt.source || g.network.String() != tt.network {
				t.Errorf("%s: source %s, network %s", tt.a, g.source, g.network)
			}
		}
		if sourceOf(netip.Addr{}).IsValid() {
			t.Error("no address is a source")
		}
	})
}

// stranger is the n-th host, each of its own network.
func stranger(n int) string { return fmt.Sprintf("10.%d.%d.1", n>>8&255, n&255) }

func TestLimiterRooms(t *testing.T) {
	now := time.Unix(1000, 0)
	fill := func(t *testing.T, l *limiter, n int) []*guest {
		t.Helper()
		var all []*guest
		for i := range n {
			g, other, why := comes(l, stranger(i), now)
			if other != nil || why != countNone {
				t.Fatalf("%d: %v %v", i, other, why)
			}
			all = append(all, g)
		}
		return all
	}
	t.Run("the oldest goes", func(t *testing.T) {
		var l limiter
		all := fill(t, &l, porchSize)
		if _, other, why := comes(&l, "192.0.2.1", now); other != all[0] || why != countNone {
			t.Errorf("got %p, %v", other, why)
		}
	})
	t.Run("the one that is served goes", func(t *testing.T) {
		var l limiter
		all := fill(t, &l, porchSize)
		all[20].phase.Store(phaseServed)
		if _, other, _ := comes(&l, "192.0.3.1", now); other != all[20] {
			t.Errorf("got %p", other)
		}
	})
	t.Run("the network that had most goes", func(t *testing.T) {
		var l limiter
		before, _, _ := comes(&l, "192.0.2.1", now)
		l.advance(before, now)
		l.advance(before, now) // had a handshake
		all := fill(t, &l, porchSize-1)
		again, other, _ := comes(&l, "192.0.2.2", now.Add(time.Second))
		if other != nil {
			t.Fatal("somebody went for nothing")
		}
		if _, other, why := comes(&l, "192.0.2.3", now.Add(halfLife)); other != again || why != countNone {
			t.Errorf("got %p, %v: not one of its own network", other, why)
		}
		// It cannot push out those that had nothing yet.
		third := l.porch[porchSize-1]
		third.busy.Store(true)
		if _, other, why := comes(&l, "192.0.2.4", now.Add(halfLife)); other != nil || why != countRefusedFull {
			t.Errorf("got %p, %v", other, why)
		}
		third.busy.Store(false)
		if _, other, _ := comes(&l, "192.0.3.1", now.Add(halfLife)); other != third {
			t.Errorf("got %p", other)
		}
		if _, other, _ := comes(&l, "192.0.4.1", now.Add(halfLife)); other != all[0] {
			t.Errorf("got %p", other)
		}
	})
	t.Run("nobody goes for its own source", func(t *testing.T) {
		var l limiter
		all := fill(t, &l, porchSize)
		for _, g := range all {
			g.source = sourceOf(netip.MustParseAddr("192.0.2.1"))
		}
		if _, other, why := comes(&l, "192.0.2.1", now); other != nil || why != countRefusedFull {
			t.Errorf("got %p, %v", other, why)
		}
		for _, g := range all {
			g.source = g.network // as it was
		}
	})
	t.Run("nobody goes while the server works for it", func(t *testing.T) {
		var l limiter
		all := fill(t, &l, porchSize)
		for _, g := range all[1:] {
			g.busy.Store(true)
		}
		if _, other, _ := comes(&l, "192.0.2.1", now); other != all[0] {
			t.Errorf("got %p", other)
		}
		l.porch[porchSize-1].busy.Store(true)
		if _, other, why := comes(&l, "192.0.3.1", now); other != nil || why != countRefusedFull {
			t.Errorf("got %p, %v", other, why)
		}
	})
	t.Run("all rooms", func(t *testing.T) {
		var l limiter
		var all []*guest
		for i := range hallSize + 1 {
			g, _, why := comes(&l, stranger(i), now)
			if why != countNone {
				t.Fatal(why)
			}
			for room, size := range []int{lineSize, hallSize} {
				other, ok := l.advance(g, now)
				if !ok || (other != nil) != (room == 1 && i == size) {
					t.Fatalf("%d: room %d: %v %v", i, room, other, ok)
				}
			}
			all = append(all, g)
		}
		if _, ok := l.advance(all[0], now); ok {
			t.Error("who lost its place went on")
		}
		if _, ok := l.advance(all[5], now); ok {
			t.Error("there is no room after the hall")
		}
		for i := range lineSize {
			if g, _, _ := comes(&l, stranger(1000+i), now); g != nil {
				l.advance(g, now)
			}
		}
		g, _, _ := comes(&l, stranger(2000), now)
		if other, ok := l.advance(g, now); !ok || other == nil || slices.Contains(all, other) {
			t.Error("a beginner takes the place of one in the hall")
		}
	})
}

// TestLimiterAtRandom plays every move at random, and checks that
// nothing is negative, over its bound, or forgotten.
func TestLimiterAtRandom(t *testing.T) {
	for seed := range uint64(9) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var l limiter
		now := time.Unix(1e9, 0)
		var in []*guest // have not left
		moves := map[string]int{}
		check := func() {
			t.Helper()
			open := map[netip.Addr]int{}
			nets := map[netip.Addr]int{}
			for _, g := range in {
				open[g.source]++
				nets[g.network]++
			}
			if l.conns != len(in) || l.conns > maxConns || len(l.porch) > porchSize || len(l.line) > lineSize || len(l.hall) > hallSize {
				t.Fatalf("seed %d: %d of %d connections, %d on the porch, %d in line, %d in the hall", seed, l.conns, len(in), len(l.porch), len(l.line), len(l.hall))
			}
			for _, c := range []struct {
				crowd crowd
				want  map[netip.Addr]int
				rate  rate
				max   int
			}{{l.sources, open, sourceRate, maxSourceConns}, {l.networks, nets, networkRate, maxNetworkConns}} {
				if len(c.crowd) > maxKeys {
					t.Fatalf("seed %d: %d keys", seed, len(c.crowd))
				}
				for k, s := range c.crowd {
					if s.open != c.want[k] || s.open > c.max || !s.at.IsZero() && (s.credit < 0 || s.credit > c.rate.burst) {
						t.Fatalf("seed %d: %s has %d of %d open, credit %g", seed, k, s.open, c.want[k], s.credit)
					}
				}
				for k, n := range c.want {
					if c.crowd[k] == nil {
						t.Fatalf("seed %d: %s with %d open is forgotten", seed, k, n)
					}
				}
			}
		}
		hosts := []int{3, 300, 5000}[seed%3] // few and busy, or many
		for step := range 4000 {
			switch n := rnd.IntN(20); {
			case n < 11:
				h := rnd.IntN(hosts)
				g, other, why := comes(&l, fmt.Sprintf("10.%d.%d.%d", h>>8, h&255, rnd.IntN(250)), now)
				moves["enter"]++
				if why == countNone {
					in = append(in, g)
				} else if moves[why.Error()]++; slices.Contains(l.porch, g) {
					t.Fatal("a refused one has a place")
				}
				if other != nil {
					if moves["evict"]++; slices.Contains(l.porch, other) || other.source == g.source || other.busy.Load() {
						t.Fatal("the wrong one goes")
					}
				}
			case n < 14 && len(in) > 0:
				g := in[rnd.IntN(len(in))]
				if _, ok := l.advance(g, now); ok {
					moves["advance"]++
				}
			case n < 16 && len(in) > 0:
				g := in[rnd.IntN(len(in))]
				g.phase.Store(phase(rnd.IntN(5)))
				g.busy.Store(rnd.IntN(3) == 0)
			case n < 18 && len(in) > 0:
				i := rnd.IntN(len(in))
				moves["leave"]++
				l.leave(in[i])
				in = slices.Delete(in, i, i+1)
			default:
				now = now.Add(time.Duration(rnd.IntN(50)-5) * time.Millisecond) // also back
			}
			if step%20 == 0 {
				check()
			}
		}
		check()
		for _, m := range []string{"enter", "leave", "advance"} {
			if moves[m] == 0 {
				t.Errorf("seed %d: never %s: %v", seed, m, moves)
			}
		}
		for _, g := range in {
			l.leave(g)
		}
		in = nil
		check()
		if len(l.guests()) != 0 {
			t.Errorf("seed %d: places stay taken", seed)
		}
	}
}

func TestCrowdForgetsTheIdle(t *testing.T) {
	now := time.Unix(1000, 0)
	var l limiter
	first, _, _ := comes(&l, "192.0.2.1", now)
	for i := range 5 * maxKeys {
		g, _, why := comes(&l, stranger(i), now)
		if why != countNone {
			t.Fatalf("%d: %v", i, why)
		}
		l.leave(g)
	}
	if len(l.sources) > maxKeys || len(l.networks) > maxKeys {
		t.Errorf("%d sources, %d networks", len(l.sources), len(l.networks))
	}
	if l.sources[first.source].open != 1 {
		t.Error("one with a connection is forgotten")
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	r := rate{perSecond: 10, burst: 5}
	var b bucket
	if b.left(r, now) != 5 {
		t.Error("a new one is not full")
	}
	b.credit = -1
	if d := b.until(1, r, now); d != 200*time.Millisecond {
		t.Errorf("until: %s", d)
	}
	if b.left(r, now.Add(-time.Hour)) != -1 || b.left(r, now.Add(100*time.Millisecond)) != 0 {
		t.Errorf("credit %g", b.credit)
	}
	if b.left(r, now.Add(time.Hour)) != 5 {
		t.Error("over the burst")
	}
}

func TestLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	var l load
	if l.now(now) != 0 {
		t.Error("a new one has some")
	}
	l.add(now)
	l.add(now)
	for _, tt := range []struct {
		after time.Duration
		want  float64
	}{{0, 2}, {-time.Hour, 2}, {halfLife, 1}, {2 * halfLife, 0.5}, {20 * halfLife, 0}} {
		if got := l.now(now.Add(tt.after)); got != tt.want {
			t.Errorf("after %s: %g, want %g", tt.after, got, tt.want)
		}
	}
}

// TestTurnstileBounds has many guests work as fast as they get turns: one at a
// time, and no more than the rate.
func TestTurnstileBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turnstile
		var wg sync.WaitGroup
		var mu sync.Mutex
		working, turns := 0, 0
		var worked time.Duration
		begin := time.Now()
		for i := range 50 {
			wg.Go(func() {
				w := newTurn()
				took := time.Duration(i+1) * 100 * time.Microsecond
				for time.Since(begin) < 20*time.Second {
					if !ts.take(w, time.After(time.Hour), nil) {
						t.Error("gave up")
						return
					}
					mu.Lock()
					if working++; working > 1 {
						t.Error("two at once")
					}
					mu.Unlock()
					time.Sleep(took)
					mu.Lock()
					working--
					turns++
					worked += took
					mu.Unlock()
					ts.give(w, took)
				}
			})
		}
		wg.Wait()
		share := worked.Seconds() / time.Since(begin).Seconds()
		if share > workRate.perSecond+0.02 || share < workRate.perSecond*0.9 {
			t.Errorf("%d turns, %.3f of a core", turns, share)
		}
		if len(ts.waiting) != 0 || ts.held != nil {
			t.Errorf("left: %v %v", ts.waiting, ts.held)
		}
	})
}

func TestTurnstileOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turnstile
		holder := newTurn()
		ts.take(holder, nil, nil)
		var got []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, g := range []struct {
			name  string
			load  float64
			phase phase
		}{{"often", 30, phaseQuestion}, {"new", 0, phaseHandshake}, {"new, too", 0, phaseHandshake}, {"new, further", 0, phaseQuestion}, {"twice", 1, phaseHandshake}} {
			w := newTurn()
			w.load, w.phase = g.load, g.phase
			wg.Go(func() {
				ts.take(w, nil, nil)
				mu.Lock()
				got = append(got, g.name)
				mu.Unlock()
				ts.give(w, 0)
			})
			synctest.Wait()
		}
		ts.give(holder, 0)
		wg.Wait()
		want := []string{"new, further", "new", "new, too", "twice", "often"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

func TestTurnstileGoesOnWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turnstile
		begin := time.Now()
		slow, next := newTurn(), newTurn()
		ts.take(slow, nil, nil)
		// One that waits for a disk holds nobody up for long.
		if !ts.take(next, time.After(time.Second), nil) {
			t.Fatal("gave up")
		}
		if d := time.Since(begin); d != maxTurn {
			t.Errorf("after %s", d)
		}
		ts.give(slow, 0) // too late to matter
		if ts.held != next {
			t.Fatal("the late one ended another's turn")
		}
		// Who gives up, or loses its place, is no longer in the line.
		gone := make(chan struct{})
		close(gone)
		if ts.take(slow, nil, gone) || ts.take(slow, time.After(time.Millisecond), nil) || len(ts.waiting) != 0 {
			t.Errorf("%d wait", len(ts.waiting))
		}
		ts.give(next, 0)
		if !ts.take(slow, nil, nil) {
			t.Error("stuck")
		}
	})
}

// TestTurnstileAtRandom has guests come and give up at any moment; afterwards
// nothing is stuck and nothing is held.
func TestTurnstileAtRandom(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			var ts turnstile
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(i)))
					w := newTurn()
					for range 100 {
						w.load = float64(rnd.IntN(3))
						if ts.take(w, time.After(time.Duration(rnd.IntN(20))*time.Millisecond), nil) {
							time.Sleep(time.Duration(rnd.IntN(4000)) * 10 * time.Microsecond)
							ts.give(w, 0)
						}
						if len(w.ready) != 0 {
							t.Error("a turn is left over")
						}
					}
				})
			}
			wg.Wait()
			if len(ts.waiting) != 0 || ts.held != nil {
				t.Errorf("seed %d: %d wait, held %v", seed, len(ts.waiting), ts.held)
			}
			if !ts.take(newTurn(), time.After(time.Minute), nil) {
				t.Errorf("seed %d: stuck", seed)
			}
		})
	}
}
