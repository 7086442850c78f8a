package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"

	"github.com/google/go-cmp/cmp"
)

const port = 7947

// member is a prober with the memory of its newest report.
type member struct {
	*Prober
	id   discovery.NodeID
	at   netip.AddrPort
	conn *memConn
	stop func()

	mu      sync.Mutex // guards the fields below
	sight   discovery.Sight
	views   []discovery.View
	reports int
}

func (m *member) saw() (discovery.Sight, []discovery.View, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sight, m.views, m.reports
}

func (m *member) of(id discovery.NodeID) discovery.Observation {
	s, _, _ := m.saw()
	for _, o := range s.Observations {
		if o.Node == id {
			return o
		}
	}
	return discovery.Observation{}
}

// proof is the newest proof of any of the nodes.
func (m *member) proof(ids ...discovery.NodeID) time.Time {
	var t time.Time
	for _, id := range ids {
		if p := m.of(id).Proof; p.After(t) {
			t = p
		}
	}
	return t
}

func start(t *testing.T, n *memNet, id, ip string, boot uint64, tune func(*Options)) *member {
	t.Helper()
	m := &member{id: discovery.NodeID(id), at: netip.AddrPortFrom(addr(t, ip), port)}
	m.conn = n.listen(m.at)
	o := Options{
		Self: m.id, Boot: boot,
		Listen: func() (net.PacketConn, error) { return m.conn, nil },
		Report: func(s discovery.Sight, vs []discovery.View) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.sight, m.views = s, vs
			m.reports++
		},
	}
	if tune != nil {
		tune(&o)
	}
	m.Prober = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", id, err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

func peerOf(m *member, group string) discovery.ProbePeer {
	return discovery.ProbePeer{Node: m.id, Addr: m.at.Addr(), Group: group}
}

func wish(peers ...discovery.ProbePeer) discovery.ProbeWish {
	return discovery.ProbeWish{Interval: 100 * time.Millisecond, EchoAfter: 400 * time.Millisecond, Peers: peers}
}

func onDemand(peers ...discovery.ProbePeer) discovery.ProbeWish {
	w := wish(peers...)
	w.OnDemand, w.EchoAfter = true, 0
	return w
}

func TestProofAndRTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		srv.Set(wish(peerOf(gw, "")))
		<-gw.Ready()
		time.Sleep(2 * time.Second)
		for _, o := range []discovery.Observation{gw.of("srv"), srv.of("gw")} {
			// Held time travels in whole microseconds.
			if o.RTT.Round(2*time.Microsecond) != 20*time.Millisecond {
				t.Errorf("%s: rtt %v, want 20ms", o.Node, o.RTT)
			}
			if age := time.Since(o.Proof); age > 600*time.Millisecond || age < 20*time.Millisecond {
				t.Errorf("%s: proof is %v old", o.Node, age)
			}
			if !o.Heard.After(o.Proof) {
				t.Errorf("%s: heard %v not after proof %v", o.Node, o.Heard, o.Proof)
			}
		}
	})
}

// TestOneWayLoss: nothing in one direction means no proof at either end,
// though one of them still hears.
func TestOneWayLoss(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mute  string // its packets are lost
		hears discovery.NodeID
	}{
		{"to the site", "gw", "gw"},
		{"from the site", "srv", "srv"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet(5 * time.Millisecond)
				gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
				gw.Set(wish(peerOf(srv, "idc")))
				srv.Set(wish(peerOf(gw, "")))
				time.Sleep(time.Second)
				cut := time.Now()
				from := map[string]netip.AddrPort{"gw": gw.at, "srv": srv.at}[tt.mute]
				n.set(func(f, _ netip.AddrPort) bool { return f == from })
				time.Sleep(3 * time.Second)
				for _, o := range []discovery.Observation{gw.of("srv"), srv.of("gw")} {
					if o.Proof.After(cut) {
						t.Errorf("%s: proof %v after the cut", o.Node, o.Proof.Sub(cut))
					}
				}
				hearing := map[discovery.NodeID]discovery.Observation{"gw": gw.of("srv"), "srv": srv.of("gw")}[tt.hears]
				if time.Since(hearing.Heard) > 300*time.Millisecond {
					t.Errorf("%s stopped hearing", tt.hears)
				}
			})
		})
	}
}

// TestEchoBurst: 0.4 s after the last proof of anybody, requests go to all
// nodes of the group every 20 ms, and stop when one of them answers.
func TestEchoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(2 * time.Millisecond)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		a, b := start(t, n, "a", "10.0.0.2", 2, nil), start(t, n, "b", "10.0.0.3", 3, nil)
		gw.Set(wish(peerOf(a, "idc"), peerOf(b, "idc")))
		a.Set(onDemand(peerOf(gw, "")))
		b.Set(onDemand(peerOf(gw, "")))
		time.Sleep(2 * time.Second)

		var mu sync.Mutex
		var first, last time.Time
		requests := map[netip.AddrPort]int{}
		n.watch(func(from, to netip.AddrPort, b []byte) {
			if mu.Lock(); kind(b[1]) == kindRequest {
				if first.IsZero() {
					first = time.Now()
				}
				last = time.Now()
				requests[to]++
			}
			mu.Unlock()
		})
		n.set(func(from, to netip.AddrPort) bool { return from != gw.at })
		cut := time.Now()
		time.Sleep(time.Second)
		mu.Lock()
		silence := first.Sub(gw.proof("a", "b"))
		if silence < 400*time.Millisecond || silence > 421*time.Millisecond {
			t.Errorf("first request %v after the last proof, want 400 ms", silence)
		}
		want := int(cut.Add(time.Second).Sub(first)/echoEvery) + 1
		for _, m := range []*member{a, b} {
			if got := requests[m.at]; got < want-2 || got > want {
				t.Errorf("%d requests to %s, want %d", got, m.id, want)
			}
		}
		mu.Unlock()

		n.set(func(from, to netip.AddrPort) bool { return from == b.at }) // a is back
		back := time.Now()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if d := last.Sub(back); d > 30*time.Millisecond {
			t.Errorf("requests went on for %v after the return of one node", d)
		}
		if p := gw.of("a").Proof; !p.After(back) {
			t.Error("no proof of a after its return")
		}
	})
}

// TestEchoBurstEnds: a site that stays away does not cost the burst's pace for ever.
func TestEchoBurstEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		gw.Set(wish(discovery.ProbePeer{Node: "a", Addr: addr(t, "10.0.0.2"), Group: "idc"}))
		time.Sleep(10 * time.Second)
		before := gw.Counters().Sent
		time.Sleep(10 * time.Second)
		if sent := gw.Counters().Sent - before; sent < 480 || sent > 520 {
			t.Errorf("%d packets in 10 s of burst, want 500", sent)
		}
		time.Sleep(20 * time.Second)
		before = gw.Counters().Sent
		time.Sleep(10 * time.Second)
		if sent := gw.Counters().Sent - before; sent < 85 || sent > 115 {
			t.Errorf("%d packets in 10 s after the burst, want 100", sent)
		}
	})
}

// TestDetection measures the silence that is left to T = 1 s by the newest
// proof when a whole site goes dark, at steady loss, and that without a fault
// the group's proof never comes near T.
func TestDetection(t *testing.T) {
	const dark = time.Second
	for _, loss := range []float64{0, 0.10, 0.25} {
		t.Run(fmt.Sprintf("loss %.0f%%", loss*100), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, uint64(loss*100)))
				var mu sync.Mutex
				var down atomic.Bool
				random := func(netip.AddrPort, netip.AddrPort) bool {
					mu.Lock()
					defer mu.Unlock()
					return down.Load() || r.Float64() < loss
				}
				n := newMemNet(10 * time.Millisecond)
				gw := start(t, n, "gw", "10.0.0.1", 1, nil)
				ids := []discovery.NodeID{"a", "b", "c"}
				w := discovery.ProbeWish{Interval: 100 * time.Millisecond, EchoAfter: 400 * time.Millisecond}
				for i, id := range ids {
					s := start(t, n, string(id), fmt.Sprintf("10.0.0.%d", i+2), uint64(i+2), nil)
					s.Set(onDemand(peerOf(gw, "")))
					w.Peers = append(w.Peers, peerOf(s, "idc"))
				}
				gw.Set(w)
				n.set(random)
				time.Sleep(3 * time.Second)

				var longest time.Duration // without a fault
				for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					longest = max(longest, time.Since(gw.proof(ids...)))
				}
				var took []time.Duration
				for range 40 {
					down.Store(true)
					cut := time.Now()
					time.Sleep(2 * time.Second)
					took = append(took, gw.proof(ids...).Add(dark).Sub(cut))
					down.Store(false)
					time.Sleep(3*time.Second + time.Duration(rand.IntN(100))*time.Millisecond)
				}
				slices.Sort(took)
				t.Logf("longest silence without a fault %v; dark after %v median, %v most, %v least",
					longest, took[len(took)/2], took[len(took)-1], took[0])
				if longest > 700*time.Millisecond {
					t.Errorf("silence of %v without a fault", longest)
				}
				if took[len(took)-1] > 1050*time.Millisecond || took[0] < 500*time.Millisecond {
					t.Errorf("dark after %v to %v, want at most 1.05 s", took[0], took[len(took)-1])
				}
			})
		})
	}
}

// TestTell: views arrive with the next pulse and, when a state changes, at once.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(time.Millisecond)
		g1, g2 := start(t, n, "g1", "10.0.0.1", 1, nil), start(t, n, "g2", "10.0.0.2", 2, nil)
		srv := start(t, n, "srv", "10.0.0.3", 3, nil)
		tell := func(m *member) discovery.ProbePeer {
			p := peerOf(m, "")
			p.Tell = true
			return p
		}
		view := func(s discovery.ViewState) []discovery.View {
			return []discovery.View{{Observer: "g1", Site: "idc-seoul", State: s, LastProof: 120 * time.Millisecond}}
		}
		w := wish(tell(g2), peerOf(srv, "idc-seoul"))
		w.Views = view(discovery.ViewLit)
		g1.Set(w)
		g2.Set(wish(tell(g1)))
		srv.Set(wish(peerOf(g1, "")))
		time.Sleep(130 * time.Millisecond)
		_, got, _ := g2.saw()
		for i := range got {
			if age := time.Since(got[i].Heard); age > 130*time.Millisecond {
				t.Errorf("heard %v ago", age)
			}
			got[i].Heard = time.Time{}
		}
		if diff := cmp.Diff(view(discovery.ViewLit), got); diff != "" {
			t.Errorf("views (-want +got):\n%s", diff)
		}

		for i := range 20 { // whatever the phase of the pulses
			time.Sleep(time.Duration(313+i*7) * time.Millisecond)
			state := []discovery.ViewState{discovery.ViewDark, discovery.ViewLit}[i%2]
			w.Views = view(state)
			g1.Set(w)
			time.Sleep(7 * time.Millisecond) // one way, and the least time between reports
			if _, got, _ := g2.saw(); len(got) != 1 || got[0].State != state {
				t.Fatalf("change %d: views %v after 7 ms, want %s", i, got, state)
			}
		}
		if _, got, _ := srv.saw(); len(got) != 0 {
			t.Errorf("a server was told %v", got)
		}
	})
}

// TestTellMany: more views than fit one packet all arrive.
func TestTellMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		g1, g2 := start(t, n, "g1", "10.0.0.1", 1, nil), start(t, n, "g2", "10.0.0.2", 2, nil)
		p1, p2 := peerOf(g1, ""), peerOf(g2, "")
		p1.Tell, p2.Tell = true, true
		w := wish(p2)
		for i := range 70 {
			w.Views = append(w.Views, discovery.View{Site: fmt.Sprintf("a-site-with-a-long-name-%08d", i), State: discovery.ViewBlind, LastProof: -1})
		}
		w.Views = append(w.Views, discovery.View{Site: "a-site-name-that-does-not-fit-anywhere", State: discovery.ViewLit})
		g1.Set(w)
		g2.Set(wish(p1))
		time.Sleep(500 * time.Millisecond)
		_, got, _ := g2.saw()
		if len(got) != 70 || got[69].Site != w.Views[69].Site || got[69].LastProof >= 0 {
			t.Errorf("%d views arrived, want 70", len(got))
		}
	})
}

// TestViewOfServerDropped: only gateways have views.
func TestViewOfServerDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		p := peerOf(gw, "")
		p.Tell = true
		w := wish(p)
		w.Views = []discovery.View{{Site: "idc", State: discovery.ViewDark}}
		srv.Set(w)
		time.Sleep(time.Second)
		if _, got, _ := gw.saw(); len(got) != 0 {
			t.Errorf("views of a server were taken: %v", got)
		}
		if gw.Counters().ViewsDropped == 0 {
			t.Error("not counted")
		}
	})
}

// TestStaleViewIsBlind: when nobody makes views any more, they have no vote.
func TestStaleViewIsBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		g1 := start(t, n, "g1", "10.0.0.1", 1, func(o *Options) { o.ViewMaxAge = time.Second })
		g2 := start(t, n, "g2", "10.0.0.2", 2, nil)
		p1, p2 := peerOf(g1, ""), peerOf(g2, "")
		p1.Tell, p2.Tell = true, true
		w := wish(p2)
		w.Views = []discovery.View{{Site: "idc", State: discovery.ViewDark, Heard: time.Now(), LastProof: time.Second}}
		g1.Set(w)
		g2.Set(wish(p1))
		time.Sleep(900 * time.Millisecond)
		if _, got, _ := g2.saw(); got[0].State != discovery.ViewDark {
			t.Errorf("fresh view told as %s", got[0].State)
		}
		time.Sleep(time.Second)
		_, got, _ := g2.saw()
		if got[0].State != discovery.ViewBlind {
			t.Errorf("stale view told as %s", got[0].State)
		}
		if got[0].LastProof < 2*time.Second {
			t.Errorf("last proof told as %v old, want it to age", got[0].LastProof)
		}
	})
}

// TestOnDemand: a server pulses a silent gateway once a second, and one that
// pulses it at the full pace.
func TestOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		srv.Set(onDemand(peerOf(gw, "")))
		per10s := func() uint64 {
			before := srv.Counters().Sent
			time.Sleep(10 * time.Second)
			return srv.Counters().Sent - before
		}
		if got := per10s(); got < 9 || got > 12 {
			t.Errorf("idle: %d pulses in 10 s, want 10", got)
		}
		gw.Set(wish(peerOf(srv, "idc")))
		time.Sleep(time.Second)
		if got := per10s(); got < 90 || got > 112 {
			t.Errorf("in demand: %d pulses in 10 s, want 100", got)
		}
		gw.Set(wish())
		time.Sleep(7 * time.Second)
		if got := per10s(); got < 9 || got > 12 {
			t.Errorf("idle again: %d pulses in 10 s, want 10", got)
		}
	})
}

// TestRemovedPeerIsLeft: no pulse and no answer to whoever left the wish, and
// an echo from the earlier stay is no proof later.
func TestRemovedPeerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		srv.Set(wish(peerOf(gw, "idc")))
		gw.Set(wish(peerOf(srv, "idc")))
		time.Sleep(5 * time.Second)
		gw.Set(wish())
		time.Sleep(100 * time.Millisecond)
		before := gw.Counters()
		time.Sleep(5 * time.Second)
		after := gw.Counters()
		if after.Sent != before.Sent {
			t.Errorf("%d packets to a removed peer", after.Sent-before.Sent)
		}
		if after.Strangers == before.Strangers {
			t.Error("its requests were not counted")
		}
		back := time.Now()
		gw.Set(wish(peerOf(srv, "idc")))
		time.Sleep(time.Second)
		if p := gw.of("srv").Proof; !p.After(back) || time.Since(p) > 300*time.Millisecond {
			t.Errorf("proof %v after the return to the wish", p.Sub(back))
		}
	})
}

// TestQuietPeers: a quiet peer costs an answer a second, has proof of us and
// gives it, and its sizes are tried like those of others.
func TestQuietPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		quiet := peerOf(srv, "")
		quiet.Quiet, quiet.Seen = true, netip.MustParseAddrPort("203.0.113.7:1")
		gw.Set(wish(quiet))
		srv.Set(onDemand(peerOf(gw, "")))
		var there, back, notes atomic.Int64
		n.watch(func(from, _ netip.AddrPort, b []byte) {
			switch {
			case b[0] == noteVersion:
				notes.Add(1)
			case from == gw.at:
				there.Add(1)
			default:
				back.Add(1)
			}
		})
		time.Sleep(20 * time.Second)
		if there.Load() > 21 || back.Load() > 23 || back.Load() < 18 {
			t.Errorf("%d packets to the quiet peer and %d from it in 20 s, want one a second", there.Load(), back.Load())
		}
		if k := notes.Load(); k < 17 || k > 22 {
			t.Errorf("%d notes in 20 s, want one a second", k)
		}
		if p := srv.of("gw").Proof; time.Since(p) > 2500*time.Millisecond {
			t.Errorf("the quiet peer's proof of us is %s old", time.Since(p))
		}
		if p := gw.of("srv").Proof; time.Since(p) > 2500*time.Millisecond {
			t.Errorf("our proof of the quiet peer is %s old", time.Since(p))
		}
		if o := srv.of("gw"); o.Seen != quiet.Seen {
			t.Errorf("told %v", o.Seen)
		}
		quiet.Size = 1440
		gw.Set(wish(quiet))
		time.Sleep(2 * time.Second)
		if o := gw.of("srv"); o.SizeWhole < 3 {
			t.Errorf("%+v", o)
		}
		// It becomes one that is probed, and what is known of it stays.
		gw.Set(wish(peerOf(srv, "idc")))
		time.Sleep(5 * time.Second)
		if p := gw.of("srv").Proof; time.Since(p) > 200*time.Millisecond {
			t.Errorf("proof of a probed peer is %s old", time.Since(p))
		}
	})
}

// BenchmarkQuietTurn is one turn of a gateway's loop with a thousand quiet peers.
func BenchmarkQuietTurn(b *testing.B) {
	now := time.Unix(1000, 0)
	p := New(Options{Boot: 1, Report: func(discovery.Sight, []discovery.View) {}})
	w := discovery.ProbeWish{Interval: time.Hour, EchoAfter: time.Hour}
	for i := range 1000 {
		w.Peers = append(w.Peers, discovery.ProbePeer{Node: discovery.NodeID(fmt.Sprint(i)), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Quiet: true})
	}
	p.take(w, now)
	c := &pipe{}
	s := &socket{conn: c, fast: c}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond) // a thousand pulses a second
		p.send(s, now)
		p.next(now)
	}
}

func TestStrangersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		time.Sleep(time.Second)
		before := gw.Counters()

		k := packet{kind: kindRequest, boot: 9, seq: 1, held: -1}
		good := k.encode(make([]byte, maxPacket))
		foreign := n.listen(netip.AddrPortFrom(addr(t, "10.0.0.9"), port))
		otherPort := n.listen(netip.AddrPortFrom(addr(t, "10.0.0.2"), port+1))
		answered := 0
		n.watch(func(_, to netip.AddrPort, _ []byte) {
			if to == foreign.addr || to == otherPort.addr {
				answered++
			}
		})
		to := net.UDPAddrFromAddrPort(gw.at)
		_, _ = foreign.WriteTo(good, to)
		_, _ = otherPort.WriteTo(good, to)
		wrong := slices.Clone(good)
		wrong[0] = 3
		_, _ = srv.conn.WriteTo(wrong, to)
		_, _ = srv.conn.WriteTo(good[:20], to)
		time.Sleep(100 * time.Millisecond)
		got := gw.Counters()
		want := Counters{Strangers: 2, Versions: 1, Malformed: 1}
		diff := Counters{Strangers: got.Strangers - before.Strangers, Versions: got.Versions - before.Versions, Malformed: got.Malformed - before.Malformed}
		if d := cmp.Diff(want, diff); d != "" {
			t.Errorf("counters (-want +got):\n%s", d)
		}
		if answered != 0 {
			t.Errorf("%d answers to strangers", answered)
		}
		if o := gw.of("srv"); !o.Heard.IsZero() {
			t.Errorf("bad packets counted as heard: %v", o)
		}
	})
}

// TestAnswersAreLimited: a hostile peer cannot make us send at its pace.
func TestAnswersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		evil := n.listen(netip.AddrPortFrom(addr(t, "10.0.0.2"), port))
		gw.Set(discovery.ProbeWish{Interval: time.Hour, Peers: []discovery.ProbePeer{{Node: "evil", Addr: evil.addr.Addr()}}})
		time.Sleep(time.Second)
		before := gw.Counters().Sent
		k := packet{kind: kindRequest, boot: 9, held: -1}
		for range 1000 {
			k.seq++
			_, _ = evil.WriteTo(k.encode(make([]byte, maxPacket)), net.UDPAddrFromAddrPort(gw.at))
			time.Sleep(time.Millisecond)
		}
		if sent := gw.Counters().Sent - before; sent < 100 || sent > 120 {
			t.Errorf("%d answers to 1000 requests in 1 s, want 100 and the burst", sent)
		}
		if gw.Counters().Unanswered == 0 {
			t.Error("not counted")
		}
	})
}

func TestPeerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		srv.Set(onDemand(peerOf(gw, "")))
		time.Sleep(10 * time.Second)
		before := gw.of("srv").Proof
		srv.stop()
		srv = start(t, n, "srv", "10.0.0.2", 3, nil)
		srv.Set(onDemand(peerOf(gw, "")))
		restart := time.Now()
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			p := gw.of("srv").Proof
			if p.Before(before) {
				t.Fatalf("proof went back by %v", before.Sub(p))
			}
			before = p
		}
		if !before.After(restart) || time.Since(srv.of("gw").Proof) > 600*time.Millisecond {
			t.Errorf("no proof within 1 s of the restart: %v, %v", before.Sub(restart), srv.of("gw").Proof)
		}
		if got := gw.Counters().Restarts; got != 1 {
			t.Errorf("%d restarts counted, want 1", got)
		}
	})
}

// TestPauseGuard: a standstill is confessed, and what waited in the socket is
// taken in before the next report.
func TestPauseGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(time.Millisecond)
		var pause atomic.Int64
		type report struct {
			at     time.Time
			paused time.Time
			heard  time.Time
		}
		var mu sync.Mutex
		var reports []report
		gw := start(t, n, "gw", "10.0.0.1", 1, func(o *Options) {
			o.Report = func(s discovery.Sight, _ []discovery.View) {
				time.Sleep(time.Duration(pause.Swap(0)))
				if len(s.Observations) == 0 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, report{s.At, s.Paused, s.Observations[0].Heard})
			}
		})
		srv := start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		srv.Set(onDemand(peerOf(gw, "")))
		time.Sleep(3 * time.Second)
		mu.Lock()
		if p := reports[len(reports)-1].paused; !p.IsZero() {
			t.Errorf("paused %v without a pause", p)
		}
		reports = nil
		mu.Unlock()
		pause.Store(int64(2 * time.Second))
		time.Sleep(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		// The report in which the loop stood still is the first, the one after
		// the standstill the second.
		first, second := reports[0], reports[1]
		wake := first.at.Add(2 * time.Second)
		if !second.paused.Equal(wake) || second.at.Sub(wake) > 5*time.Millisecond {
			t.Errorf("paused %v, reported %v after the pause, want both at its end", second.paused.Sub(wake), second.at.Sub(wake))
		}
		if second.heard.Before(wake) {
			t.Errorf("reported before the socket was empty: heard %v", second.heard.Sub(wake))
		}
		if got := gw.Counters().Pauses; got != 1 {
			t.Errorf("%d pauses, want 1", got)
		}
	})
}

// TestSocketOpensLate: until the tunnel is up there is a send error, no
// silence; afterwards the prober counts as just started.
func TestSocketOpensLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		var up atomic.Bool
		var conn *memConn
		gw := start(t, n, "gw", "10.0.0.1", 1, func(o *Options) {
			listen := o.Listen
			o.Listen = func() (net.PacketConn, error) {
				if !up.Load() {
					return nil, errors.New("no such address")
				}
				c, err := listen()
				conn = c.(*memConn)
				return c, err
			}
		})
		gw.Set(wish(discovery.ProbePeer{Node: "srv", Addr: addr(t, "10.0.0.2"), Group: "idc"}))
		begin := time.Now()
		time.Sleep(time.Minute)
		s, _, reports := gw.saw()
		if s.SendErr != "no such address" || !s.SendErrSince.Equal(begin) || reports < 200 || len(s.Observations) != 1 {
			t.Errorf("sight without a socket: %+v after %d reports", s, reports)
		}
		select {
		case <-gw.Ready():
			t.Error("ready without a socket")
		default:
		}
		up.Store(true)
		<-gw.Ready()
		opened := time.Now()
		time.Sleep(time.Second)
		if s, _, _ = gw.saw(); s.SendErr != "" || !s.SendErrSince.IsZero() || !s.Started.Equal(opened) {
			t.Errorf("sight with a socket: %+v, opened %v", s, opened)
		}

		// The device goes away and returns: time without a socket is no silence.
		up.Store(false)
		conn.Close()
		time.Sleep(10 * time.Second)
		if s, _, _ = gw.saw(); s.SendErr == "" {
			t.Error("no send error without a socket")
		}
		gw.conn = n.listen(gw.at)
		up.Store(true)
		time.Sleep(3 * time.Second)
		if s, _, _ = gw.saw(); s.SendErr != "" || time.Since(s.Paused) > 3*time.Second {
			t.Errorf("sight with a new socket: %+v", s)
		}
	})
}

func TestSendErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(peerOf(srv, "idc")))
		srv.Set(wish(peerOf(gw, "")))
		time.Sleep(time.Second)
		failed := time.Now()
		gw.conn.failSends(errors.New("network is unreachable"))
		time.Sleep(2 * time.Second)
		s, _, _ := gw.saw()
		if s.SendErr != "network is unreachable" || s.SendErrSince.Sub(failed) > 120*time.Millisecond {
			t.Errorf("send error %q since %v", s.SendErr, s.SendErrSince.Sub(failed))
		}
		gw.conn.failSends(nil)
		healed := time.Now()
		time.Sleep(time.Second)
		s, _, _ = gw.saw()
		if s.SendErr != "" || !s.SendErrSince.IsZero() || s.Paused.Before(healed) {
			t.Errorf("after healing: %q since %v, paused %v", s.SendErr, s.SendErrSince, s.Paused.Sub(healed))
		}
	})
}

// TestReportPace: with groups 50 ms while there is news, else 250 ms.
func TestReportPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		w := wish()
		wServer := onDemand(peerOf(gw, ""))
		for i := range 5 {
			s := start(t, n, fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.0.%d", i+2), uint64(i+2), nil)
			s.Set(wServer)
			w.Peers = append(w.Peers, peerOf(s, "idc"))
			defer func() {
				time.Sleep(time.Second)
				_, _, before := s.saw()
				time.Sleep(10 * time.Second)
				if _, _, after := s.saw(); after-before < 39 || after-before > 41 {
					t.Errorf("server: %d reports in 10 s, want 40", after-before)
				}
			}()
		}
		gw.Set(w)
		time.Sleep(time.Second)
		_, _, before := gw.saw()
		time.Sleep(10 * time.Second)
		if _, _, after := gw.saw(); after-before < 150 || after-before > 201 {
			t.Errorf("gateway: %d reports in 10 s, want at most 200", after-before)
		}
	})
}
