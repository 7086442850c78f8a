package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"
)

// TestTwinIsSeen tells what records of one node say of its processes.
func TestTwinIsSeen(t *testing.T) {
	type told struct {
		seq, boot uint64
		text      string
	}
	for _, tt := range []struct {
		name string
		list []told
		want bool
	}{
		{"one life", []told{{1, 1, "a"}, {2, 1, "b"}, {3, 1, "c"}}, false},
		{"the same again", []told{{1, 1, "a"}, {1, 1, "a"}}, false},
		{"restarts", []told{{1, 1, "a"}, {2, 2, "a"}, {3, 3, "a"}, {4, 4, "a"}, {5, 5, "a"}, {6, 6, "a"}}, false},
		{"late record of the life before", []told{{1, 1, "a"}, {2, 1, "b"}, {3, 2, "c"}, {2, 1, "b"}, {1, 1, "a"}}, false},
		{"two contents of one life", []told{{5, 1, "a"}, {5, 1, "b"}}, false},
		{"two lives under one number", []told{{5, 1, "a"}, {5, 2, "a"}}, true},
		{"a life returns", []told{{1, 1, "a"}, {2, 2, "a"}, {3, 1, "a"}}, true},
		{"a life returns after others", []told{{1, 1, "a"}, {2, 2, "a"}, {3, 3, "a"}, {4, 4, "a"}, {5, 1, "a"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVillage(t)
			g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
			if err != nil {
				t.Fatal(err)
			}
			p := v.person(2, discovery.RoleServer)
			if err := g.Introduce(p.chain); err != nil {
				t.Fatal(err)
			}
			for _, r := range tt.list {
				rec := record{Seq: r.seq, Announcement: announcement(r.text, r.boot)}
				g.merge(item{record: p.signed(testName, rec)}, p.id.Addr)
			}
			for _, m := range g.Members() {
				if got := !m.Twin.IsZero(); got != (tt.want && m.ID == p.id.ID) {
					t.Errorf("%s: twin %v", m.Name, m.Twin)
				}
			}
			if got := g.Counters()["clone"] > 0; got != tt.want && tt.name != "two contents of one life" {
				t.Errorf("counted as a clone: %v", got)
			}
		})
	}
}

// TestCloneIsSeenByAll: a copy of a node's state directory answers each of its
// records with one of its own.
func TestCloneIsSeenByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 3)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		time.Sleep(10 * time.Second)
		for _, g := range all {
			for _, m := range g.Members() {
				if !m.Twin.IsZero() {
					t.Fatalf("%s holds %s for a twin in peace", g.id.Name, m.Name)
				}
			}
		}
		victim := all[4]
		copyOf := hostile{victim.person, v}
		start := time.Now()
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			m, _ := member(all[0], victim.id.ID)
			if m.Boot == 99 {
				continue // its own word is the newest
			}
			r := record{Seq: m.Seq + 1, Announcement: announcement("copy", 99)}
			copyOf.all(userFrame(testName, item{record: copyOf.signed(testName, r)}))
		}
		for _, g := range all {
			m, _ := member(g, victim.id.ID)
			if m.Twin.Before(start) {
				t.Errorf("%s: newest proof %v", g.id.Name, m.Twin)
			}
		}
		if c := victim.Counters()["clone"]; c == 0 {
			t.Error("the victim noticed nothing")
		}
	})
}

// TestLiesAreNoTwin: whoever pushes a node's incarnation up makes it warn, but
// cannot make anybody take it for two.
func TestLiesAreNoTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all, h := besiege(t)
		victim := all[4]
		for range 60 {
			all[0].book.mu.Lock()
			edge := all[0].book.entries[victim.id.ID].floor + window
			all[0].book.mu.Unlock()
			h.all(word(msgDead, edge, victim.id.ID, h.id.ID))
			time.Sleep(time.Second)
		}
		if victim.Counters()["clone"] == 0 {
			t.Error("the victim did not warn")
		}
		for _, g := range all {
			if m, _ := member(g, victim.id.ID); !m.Twin.IsZero() {
				t.Errorf("%s takes it for two", g.id.Name)
			}
		}
	})
}
