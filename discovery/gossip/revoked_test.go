package gossip

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"
)

// TestRevokedStaysGone: the node goes on as if nothing had happened, and an older
// version that knows nothing of notices goes on telling of it.
func TestRevokedStaysGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		houses := map[discovery.NodeID]*Gossip{}
		all := v.populate(2, 5, func(o *Options) {
			switch o.Self.Name {
			case "node-6": // an older version
			case "node-7": // to be revoked: it believes nothing of the kind
				town.keep(o)
				o.Judge = func([]byte) bool { return false }
				o.Verify = v.root.verify
			default:
				town.keep(o)
				id := o.Self.ID
				town.rolls[id].revise = func(string) { houses[id].Recheck() }
			}
		})
		for _, g := range all {
			houses[g.id.ID] = g.Gossip
		}
		v.within(20*time.Second, "seven nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		old, victim, honest := all[5], all[6], all[:5]
		holds := func() (names []string) {
			for _, g := range honest {
				if _, ok := member(g, victim.id.ID); ok {
					names = append(names, g.id.Name)
				}
			}
			return names
		}
		// It has news just now: its record waits in everybody's queue.
		a := announcement("victim", 1)
		a.Draining = true
		if err := victim.Announce(a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		town.publish(all[0], town.revocation(victim.id.ID))
		took := v.within(time.Second, "all who understand have forgotten it", func() bool { return holds() == nil })
		t.Logf("forgotten after %s", took)

		time.Sleep(5 * time.Second)
		before := map[discovery.NodeID]map[string]uint64{}
		for _, g := range honest {
			before[g.id.ID] = g.Counters()
		}
		v.w.mu.Lock()
		v.w.seen = map[[2]netip.Addr]int{}
		v.w.mu.Unlock()
		for range 2 * 240 {
			time.Sleep(500 * time.Millisecond)
			if who := holds(); who != nil {
				t.Fatalf("%v hold it again", who)
			}
			if err := all[1].Introduce(victim.chain); err == nil {
				t.Fatal("it was introduced again")
			}
		}
		for _, g := range honest {
			c, was := g.Counters(), before[g.id.ID]
			if c["nodes-forgotten"] != 1 {
				t.Errorf("%s: %d nodes forgotten, want 1", g.id.Name, c["nodes-forgotten"])
			}
			if c["refused"] == was["refused"] {
				t.Errorf("%s: nothing refused in four minutes: is nobody talking?", g.id.Name)
			}
			if n := c["wants-sent"] - was["wants-sent"]; n > 0 {
				t.Errorf("%s: %d questions about a node that is gone", g.id.Name, n)
			}
			v.w.mu.Lock()
			if n := v.w.seen[[2]netip.Addr{g.id.Addr, victim.id.Addr}]; n > 0 {
				t.Errorf("%s sent it %d datagrams", g.id.Name, n)
			}
			v.w.mu.Unlock()
		}
		// Refusals cost one verification a minute, and only
		// where somebody introduces it.
		if n := all[0].Counters()["foreign"] - before[all[0].id.ID]["foreign"]; n > 8 {
			t.Errorf("%d verifications of a refused chain in four minutes", n)
		}
		// The victim suspects those who are silent, and the old version listens.
		v.within(30*time.Second, "the others see each other", allSee(append(honest[:5:5], old)))
	})
}

// TestRevokedByMistakeComesBack once Verify accepts it again.
func TestRevokedByMistakeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 3, func(o *Options) {
			town.keep(o)
			if o.Self.Name == "node-5" {
				o.Verify = v.root.verify
			}
		})
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		mistake := town.revocation(all[4].id.ID)
		for _, g := range all[:4] {
			town.of(g).add(mistake)
			g.Recheck(all[4].id.ID)
		}
		time.Sleep(30 * time.Second)
		if _, ok := member(all[0], all[4].id.ID); ok {
			t.Fatal("the node was not forgotten")
		}
		for _, g := range all[:4] {
			r := town.of(g)
			r.mu.Lock()
			delete(r.held, string(mistake))
			r.sum = [8]byte{}
			r.mu.Unlock()
			g.Recheck()
		}
		v.within(time.Minute, "it is back", allSee(all))
	})
}

func TestRecheckNamesNodes(t *testing.T) {
	v := newVillage(t)
	o := v.person(1, discovery.RoleGateway).options(v.w, v.root)
	var judged []discovery.NodeID
	o.Verify = func(c [][]byte) (discovery.Identity, pubKey, error) {
		id, key, err := v.root.verify(c)
		judged = append(judged, id.ID)
		return id, key, err
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var ids []discovery.NodeID
	for n := range 5 {
		p := v.person(n+2, discovery.RoleServer)
		ids = append(ids, p.id.ID)
		if err := g.Introduce(p.chain); err != nil {
			t.Fatal(err)
		}
	}
	judged = nil
	g.Recheck(ids[3], "nobody")
	if len(judged) != 1 || judged[0] != ids[3] {
		t.Errorf("judged %v, want %s", judged, ids[3])
	}
	judged = nil
	g.Recheck()
	if len(judged) != 5 {
		t.Errorf("judged %d, want all five others", len(judged))
	}
}

func TestGoneIsBounded(t *testing.T) {
	var o gone
	now := time.Unix(1000, 0)
	for n := range 3 * maxNodes {
		e := &entry{whole: digest{byte(n), byte(n >> 8), byte(n >> 16)}}
		e.id = discovery.Identity{ID: discovery.NodeID(rune(n)), Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}
		o.add(e, now)
	}
	if len(o.nodes) != goneNodes || len(o.addrs) != goneNodes || len(o.chains) > maxNodes {
		t.Errorf("%d nodes, %d addresses, %d chains", len(o.nodes), len(o.addrs), len(o.chains))
	}
	// Two nodes of one address: the end of one leaves the other.
	at := netip.MustParseAddr("10.9.9.9")
	for _, id := range []discovery.NodeID{"first", "second"} {
		o.add(&entry{id: discovery.Identity{ID: id, Addr: at}}, now)
	}
	o.remove("first")
	if o.addrs[at] != "second" || !o.has("second") || o.has("first") {
		t.Errorf("at the address: %s", o.addrs[at])
	}
	o.remove("second")
	if _, ok := o.addrs[at]; ok {
		t.Error("the address is still remembered")
	}
}
