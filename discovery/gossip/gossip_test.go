package gossip

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
)

type pubKey = ed25519.PublicKey

func TestJoinConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		took := v.within(20*time.Second, "five nodes see each other", allSee(all))
		t.Logf("converged after %s", took)
		want := all[4].Members()
		for _, g := range all[:4] {
			if d := cmp.Diff(want, g.Members(), cmpopts.IgnoreFields(discovery.Member{}, "Since"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Errorf("members differ (-want +got):\n%s", d)
			}
		}
	})
}

func TestAnnounceChangeReachesAll(t *testing.T) {
	tests := []struct {
		name     string
		services int
		loss     float64
		limit    time.Duration
	}{
		{"small", 1, 0, 2 * time.Second},
		{"small at 25 percent loss", 1, 0.25, 15 * time.Second},
		{"too large for a datagram", 64, 0, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVillage(t)
				all := v.populate(2, 3)
				v.within(20*time.Second, "five nodes see each other", allSee(all))
				time.Sleep(10 * time.Second)
				v.w.mu.Lock()
				v.w.loss = tt.loss
				v.w.mu.Unlock()
				a := announcement("changed", 1)
				a.Services, a.Draining = nil, true
				for i := range tt.services {
					name := fmt.Sprintf("service-%02d-%s", i, strings.Repeat("x", 20))
					a.Services = append(a.Services, discovery.Service{Name: name, Port: 80, Check: discovery.CheckFailing, Capacity: i})
				}
				if err := all[3].Announce(a); err != nil {
					t.Fatal(err)
				}
				took := v.within(tt.limit, "all know the change", func() bool {
					for _, g := range all {
						m, _ := member(g, all[3].id.ID)
						if !m.Draining || len(m.Services) != tt.services {
							return false
						}
					}
					return true
				})
				t.Logf("known to all after %s", took)
			})
		})
	}
}

func TestAnnounceEqualContentDoesNothing(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := g.Announce(announcement("same", 7)); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.Members()[0].Seq; got != 1 {
		t.Errorf("seq %d after three equal announcements, want 1", got)
	}
	if err := g.Announce(announcement("other", 7)); err != nil {
		t.Fatal(err)
	}
	if got := g.Members()[0].Seq; got != 2 {
		t.Errorf("seq %d after a change, want 2", got)
	}
}

func TestAnnounceRefusesWhatBreaksABound(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	many := announcement("x", 1)
	many.Endpoints = make([]netip.AddrPort, 9)
	unsorted := announcement("x", 1)
	unsorted.Services = []discovery.Service{{Name: "b", Port: 1}, {Name: "a", Port: 1}}
	control := announcement("x", 1)
	control.Version = "\x1b[31m"
	for _, a := range []discovery.Announcement{many, unsorted, control} {
		if err := g.Announce(a); err == nil {
			t.Errorf("announced %+v, want an error", a)
		}
	}
}

func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		inSite := map[netip.Addr]bool{}
		for _, g := range all[2:] {
			inSite[g.id.Addr] = true
		}
		v.w.setCut(func(a, b netip.Addr) bool { return inSite[a] != inSite[b] })
		time.Sleep(120 * time.Second)
		if !sees(all[0], discovery.StateDead, all[2:]...) || !sees(all[2], discovery.StateDead, all[:2]...) {
			t.Fatalf("after 120 s of partition: %s / %s", brief(all[0].Members()), brief(all[2].Members()))
		}
		v.w.setCut(nil)
		took := v.within(10*time.Second, "the mesh is whole again", allSee(all))
		t.Logf("whole after %s", took)
	})
}

func TestCrashIsSuspectedThenDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		victim := all[4].id.Addr
		v.w.setCut(func(a, b netip.Addr) bool { return a == victim || b == victim })
		v.within(10*time.Second, "somebody suspects", func() bool { return sees(all[0], discovery.StateSuspect, all[4]) })
		v.within(20*time.Second, "all know", func() bool {
			for _, g := range all[:4] {
				if !sees(g, discovery.StateDead, all[4]) {
					return false
				}
			}
			return true
		})
	})
}

func TestLeaveIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		start := time.Now()
		all[4].stop()
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("leaving took %s", took)
		}
		v.within(3*time.Second, "all know that it left", func() bool {
			for _, g := range all[:4] {
				if !sees(g, discovery.StateLeft, all[4]) {
					return false
				}
			}
			return true
		})
	})
}

func TestRestartWithLostCounterJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3, func(o *Options) { o.Seq = 1000 })
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		old := all[4]
		old.stop()
		time.Sleep(5 * time.Second)
		blobs := all[0].Export()
		again := v.start(old.person, [][]byte{blobs[0], blobs[1], blobs[2], blobs[3], blobs[4]}, func(o *Options) { o.Seq = 3 })
		if err := again.Announce(announcement("reborn", 2)); err != nil {
			t.Fatal(err)
		}
		now := append(append([]*villager{}, all[:4]...), again)
		v.within(10*time.Second, "the new life is known to all", func() bool {
			for _, g := range now {
				if m, _ := member(g, old.id.ID); m.Boot != 2 || m.Seq <= 1000 || m.State != discovery.StateAlive {
					return false
				}
			}
			return true
		})
	})
}

func TestRestartWithoutDiskJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3, func(o *Options) { o.Seq = 1000 })
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		// A crash, not a farewell: the others hold a living node of that name.
		old := all[4]
		addr := old.id.Addr
		v.w.setCut(func(a, b netip.Addr) bool { return a == addr || b == addr })
		old.stop()
		v.w.setCut(nil)
		again := v.start(old.person, nil, func(o *Options) {
			o.Seq = 3
			o.Seeds = func() []netip.Addr { return []netip.Addr{all[0].id.Addr} }
		})
		now := append(append([]*villager{}, all[:4]...), again)
		v.within(10*time.Second, "the new life is known to all", func() bool {
			for _, g := range now {
				if m, _ := member(g, old.id.ID); m.Seq <= 1000 || m.State != discovery.StateAlive {
					return false
				}
			}
			return allSee(now)()
		})
	})
}

func TestIntroduceSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(3, 3)
		v.within(20*time.Second, "six nodes see each other", allSee(all))
		stranger := v.person(50, discovery.RoleServer)
		if err := all[0].Introduce(stranger.chain); err != nil {
			t.Fatal(err)
		}
		knows := func(g *villager) bool {
			m, ok := member(g, stranger.id.ID)
			return ok && m.State == discovery.StateKnown && m.Seq == 0
		}
		v.within(time.Second, "all gateways know", func() bool { return knows(all[0]) && knows(all[1]) && knows(all[2]) })
		v.within(time.Minute, "all nodes know", func() bool {
			for _, g := range all {
				if !knows(g) {
					return false
				}
			}
			return true
		})
		// It joins at another gateway than the one that issued.
		o := v.start(stranger, all[1].Export())
		v.within(15*time.Second, "all see it alive", allSee(append(all, o)))
	})
}

func TestRenewedChainSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		p := all[3].person
		id := p.id
		id.NotAfter = testEnd.Add(time.Hour)
		if err := all[3].SetChain(v.root.issue(id, p.key.Public().(pubKey))); err != nil {
			t.Fatal(err)
		}
		v.within(15*time.Second, "all know the new certificate", func() bool {
			for _, g := range all {
				if m, _ := member(g, id.ID); !m.NotAfter.Equal(id.NotAfter) {
					return false
				}
			}
			return true
		})
	})
}

func TestRecheckForgetsTheRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		var revoked atomic.Value
		revoked.Store(discovery.NodeID(""))
		all := v.populate(2, 3, func(o *Options) {
			verify := o.Verify
			o.Verify = func(c [][]byte) (discovery.Identity, pubKey, error) {
				id, key, err := verify(c)
				if err == nil && id.ID == revoked.Load() {
					err = fmt.Errorf("revoked")
				}
				return id, key, err
			}
		})
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		synctest.Wait()
		revoked.Store(all[4].id.ID)
		for _, g := range all[:4] {
			g.Recheck()
		}
		time.Sleep(30 * time.Second)
		for _, g := range all[:4] {
			if _, ok := member(g, all[4].id.ID); ok {
				t.Errorf("%s still holds the revoked node", g.id.Name)
			}
		}
		if !allSee(all[:4])() {
			t.Errorf("the others no longer see each other: %s", brief(all[0].Members()))
		}
	})
}

func TestThirtyNodesJoinAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 28)
		took := v.within(30*time.Second, "thirty nodes see each other", allSee(all))
		t.Logf("converged after %s", took)
		time.Sleep(time.Minute)
		if !allSee(all)() {
			t.Errorf("a minute later: %s", brief(all[0].Members()))
		}
		for _, k := range []cause{causeBadIncarnation, causeRate, causeStreamLimit, causeClone, causeMalformed, causeOversize} {
			for _, g := range all {
				if n := g.Counters()[string(k)]; n > 0 {
					t.Errorf("%s: %d times %s among honest nodes", g.id.Name, n, k)
				}
			}
		}
	})
}

// TestNeighboursHearAtOnce: a change of Direct reaches the neighbours that it
// concerns before gossip has had its next turn, and the gateways with them.
func TestNeighboursHearAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 30, func(o *Options) { o.Timing.Gossip = 10 * time.Second })
		v.within(3*time.Minute, "all see each other", allSee(all))
		time.Sleep(time.Minute)
		from, near := all[7], all[9]
		a := announcement("x", 1)
		a.Direct = []netip.Addr{near.id.Addr}
		if err := from.Announce(a); err != nil {
			t.Fatal(err)
		}
		knows := func(g *villager, want int) func() bool {
			return func() bool {
				for _, m := range g.Members() {
					if m.ID == from.id.ID {
						return len(m.Direct) == want
					}
				}
				return false
			}
		}
		time.Sleep(20 * time.Millisecond)
		for _, g := range []*villager{near, all[0], all[1]} {
			if !knows(g, 1)() {
				t.Errorf("%s does not know", g.id.Name)
			}
		}
		// The end is told to the former neighbour as well.
		a.Direct = nil
		if err := from.Announce(a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if !knows(near, 0)() {
			t.Errorf("%s does not know the end", near.id.Name)
		}
	})
}
