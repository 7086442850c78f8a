package gossip

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

func TestNoticeReachesAllAtOnce(t *testing.T) {
	tests := []struct {
		name  string
		nodes int
		loss  float64
		limit time.Duration
	}{
		{"fifty nodes", 50, 0, 200 * time.Millisecond},
		{"fifteen at 25 percent loss", 15, 0.25, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVillage(t)
				town := newTown(v.root)
				all := v.populate(2, tt.nodes-2, town.keep)
				v.within(30*time.Second, "all see each other", allSee(all))
				v.w.mu.Lock()
				v.w.loss = tt.loss
				v.w.mu.Unlock()
				n := town.notice(strings.Repeat("x", 1000))
				town.publish(all[7], n)
				took := v.within(tt.limit, "all have the notice", town.told(all, n))
				t.Logf("told after %s", took)
				time.Sleep(5 * time.Second)
				for _, g := range all {
					if got := town.of(g).checked(); got != 1 {
						t.Errorf("%s checked %d signatures of one notice, want 1", g.id.Name, got)
					}
				}
			})
		})
	}
}

// TestNoticeReachesWhoThePublisherDoesNotSee: only the gossip of others can.
func TestNoticeReachesWhoThePublisherDoesNotSee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 6, town.keep)
		v.within(20*time.Second, "eight nodes see each other", allSee(all))
		a, b := all[5].id.Addr, all[6].id.Addr
		v.w.setCut(func(x, y netip.Addr) bool { return x == a && y == b || x == b && y == a })
		n := town.notice("quarantined somebody")
		town.publish(all[5], n)
		v.within(2*time.Second, "all have the notice", town.told(all, n))
	})
}

// TestNoticeIsToldFurtherAtOnce: when gossip has no room, those who hear a
// notice tell it to those whom the publisher does not reach.
func TestNoticeIsToldFurtherAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 18, town.keep)
		v.within(30*time.Second, "twenty nodes see each other", allSee(all))
		time.Sleep(5 * time.Second)
		unseen := map[netip.Addr]bool{}
		for _, g := range all[18:] {
			unseen[g.id.Addr] = true
		}
		v.w.setCut(func(a, b netip.Addr) bool {
			return a == all[0].id.Addr && unseen[b] || b == all[0].id.Addr && unseen[a]
		})
		for _, g := range all {
			g.notices.passing.Store(maxPassing)
		}
		n := town.notice("told by word of mouth")
		town.publish(all[0], n)
		took := v.within(500*time.Millisecond, "all have the notice", town.told(all, n))
		t.Logf("told after %s", took)
	})
}

func TestNoticeCrossesAHealedPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 3, town.keep)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		inSite := map[netip.Addr]bool{}
		for _, g := range all[2:] {
			inSite[g.id.Addr] = true
		}
		v.w.setCut(func(a, b netip.Addr) bool { return inSite[a] != inSite[b] })
		time.Sleep(2 * time.Minute)
		here, there := town.notice("said in aws"), town.notice("said in the site")
		town.publish(all[0], here)
		town.publish(all[3], there)
		time.Sleep(2 * time.Minute)
		if town.of(all[2]).has(here) || town.of(all[1]).has(there) {
			t.Fatal("a notice crossed the cut")
		}
		v.w.setCut(nil)
		took := v.within(10*time.Second, "all have both", town.told(all, here, there))
		t.Logf("whole after %s", took)
	})
}

// TestAwayNodeLearnsAllAtOnce: a day's revocations come with the join.
func TestAwayNodeLearnsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 3, town.keep)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		away := all[4]
		away.stop()
		time.Sleep(time.Minute)
		var list [][]byte
		for i := range 1600 { // more than one answer holds
			list = append(list, town.notice(fmt.Sprintf("revoked %04d %s", i, strings.Repeat("x", 700))))
			town.of(all[0]).judge(list[i])
		}
		all[0].Publish(list[0]) // the others ask when they next meet
		v.within(time.Minute, "the others have them", town.told(all[:4], list...))
		blobs := all[0].Export()
		time.Sleep(10 * time.Minute)
		again := v.start(away.person, blobs, town.keep)
		took := v.within(10*time.Second, "it has them", town.told([]*villager{again}, list...))
		t.Logf("1600 notices known after %s; %d fetches", took, again.Counters()["fetches-sent"])
		v.within(20*time.Second, "all see each other", allSee(append(all[:4:4], again)))
	})
}

// TestLastWordIsHeard: a node that leaves says so and stops.
func TestLastWordIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 6, town.keep)
		v.within(20*time.Second, "eight nodes see each other", allSee(all))
		n := town.revocation(all[7].id.ID)
		town.publish(all[7], n)
		all[7].stop()
		v.within(time.Second, "the others have it", town.told(all[:7], n))
	})
}

func TestBigNoticeReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(3, 17, town.keep)
		v.within(30*time.Second, "twenty nodes see each other", allSee(all))
		n := town.notice(strings.Repeat("root ", (maxNotice-64)/5))
		town.publish(all[0], n)
		v.within(200*time.Millisecond, "the gateways have it", town.told(all[:3], n))
		took := v.within(20*time.Second, "all have it", town.told(all, n))
		t.Logf("%d bytes with all after %s", len(n), took)
		time.Sleep(time.Minute)
		for _, g := range all {
			if got := town.of(g).checked(); got != 1 {
				t.Errorf("%s checked %d signatures of one notice, want 1", g.id.Name, got)
			}
		}
	})
}

func TestPublishRefusesSizes(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{nil, make([]byte, maxNotice+1)} {
		g.Publish(b)
	}
	if c := g.Counters(); c["notices-published"] != 0 {
		t.Errorf("counters %v", c)
	}
	g.Publish(make([]byte, maxNotice))
	if c := g.Counters(); c["notices-published"] != 1 {
		t.Errorf("counters %v", c)
	}
}

// TestManyNoticesAreBounded: what waits and what is under way does not grow with
// what is published.
func TestManyNoticesAreBounded(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		g.Publish(fmt.Appendf(nil, "notice %d", i))
	}
	if got := g.queue.NumQueued(); got > maxPassing+2 {
		t.Errorf("%d broadcasts wait, want at most %d", got, maxPassing+2)
	}
	if got := len(g.notices.shouts); got != maxShouts {
		t.Errorf("%d notices wait, want %d", got, maxShouts)
	}
	// Told often enough they make room.
	g.book.mark(g.opt.Self.ID, discovery.StateAlive)
	for range 5000 {
		g.queue.GetBroadcasts(2, 1200)
	}
	if got := g.notices.passing.Load(); got != 0 {
		t.Errorf("%d notices under way, want 0", got)
	}
}

// TestQueueForgetsNothing: two notices of one size that do not fit one datagram
// are both told as often as one alone.
func TestQueueForgetsNothing(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		p := v.person(n+2, discovery.RoleServer)
		if err := g.Introduce(p.chain); err != nil {
			t.Fatal(err)
		}
		g.book.mark(p.id.ID, discovery.StateAlive)
	}
	told := map[byte]int{}
	round := func() {
		for _, b := range g.queue.GetBroadcasts(2, 1200) {
			told[b[len(b)-1]]++
		}
	}
	for i := range byte(4) {
		g.Publish(append(make([]byte, 999), 'a'+i))
		round()
	}
	for range 200 {
		round()
	}
	want := map[byte]int{'a': 8, 'b': 8, 'c': 8, 'd': 8} // 4 times log10(31), rounded up
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("times told (-want +got):\n%s", d)
	}
}

// TestNoticesBesideOlderVersions: a node that knows nothing of notices takes
// part in everything else.
func TestNoticesBesideOlderVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 4, func(o *Options) {
			if o.Self.Name == "node-2" || o.Self.Name == "node-4" {
				return // feature off
			}
			town.keep(o)
		})
		v.within(20*time.Second, "six nodes see each other", allSee(all))
		knows := []*villager{all[0], all[2], all[4], all[5]}
		n, big := town.notice("small"), town.notice(strings.Repeat("big", 9000))
		town.publish(all[0], n)
		town.publish(all[0], big)
		v.within(30*time.Second, "those who understand have both", town.told(knows, n, big))
		time.Sleep(3 * time.Minute)
		if !allSee(all)() {
			t.Errorf("members: %s", brief(all[0].Members()))
		}
		for _, g := range all {
			for _, k := range []cause{causeMalformed, causeOversize, causeRate, causeStreamLimit} {
				if got := g.Counters()[string(k)]; got > 0 {
					t.Errorf("%s: %d times %s", g.id.Name, got, k)
				}
			}
		}
	})
}

// TestPushPullHeaderKeepsItsOldForm: an older version skips the field that was
// added, and what does not begin like a push/pull is left alone.
func TestPushPullHeaderKeepsItsOldForm(t *testing.T) {
	m := message{Type: msgPushPull, Nodes: 3, UserStateLen: 70000, Join: true}
	told := []byte("digest..size")
	b := withNotices(append(m.bytes(), "states"...), told)
	r := bytes.NewReader(b[1:])
	got, err := readMessage(r, msgPushPull)
	if err != nil || got.Nodes != 3 || got.UserStateLen != 70000 || !got.Join || !bytes.Equal(got.Notices, told) {
		t.Fatalf("read %+v, %v", got, err)
	}
	if rest := b[len(b)-r.Len():]; string(rest) != "states" {
		t.Errorf("%q follows the header", rest)
	}
	if bytes.Contains(got.bytes(), []byte("Notices")) {
		t.Error("memberlist is given the field")
	}
	for _, other := range [][]byte{nil, {msgPushPull}, {msgPushPull, 0x8f}, {msgPing, 0x80}, {streamMark, 0, 0, 0, 0}} {
		if got := withNotices(other, told); !bytes.Equal(got, other) {
			t.Errorf("%x became %x", other, got)
		}
	}
}

// TestDisagreementCostsLittle: two nodes that never agree on what holds do not
// ask each other for ever.
func TestDisagreementCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 1, town.keep)
		v.within(20*time.Second, "three nodes see each other", allSee(all))
		for i := range 20 { // nobody else believes these
			town.of(all[2]).held[fmt.Sprintf("nonsense %d", i)] = true
		}
		time.Sleep(30 * time.Minute) // 180 push/pulls of each
		for _, g := range all {
			c := g.Counters()
			if c["fetches-sent"] > 15 {
				t.Errorf("%s: %d fetches in half an hour", g.id.Name, c["fetches-sent"])
			}
			if got := town.of(g).checked(); got > 20*6 {
				t.Errorf("%s: %d signatures checked in half an hour", g.id.Name, got)
			}
		}
		// What is right still comes through at once.
		n := town.notice("true")
		town.of(all[2]).judge(n)
		v.within(15*time.Second, "all have it", town.told(all, n))
	})
}

func TestHostileJunkNoticesAreRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(2, 3, town.keep)
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		h := hostile{v.person(66, discovery.RoleServer), v}
		for _, g := range all {
			if err := g.Introduce(h.chain); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		const seconds, pace = 20, 500
		n := town.notice("the truth, in the flood")
		for s := range seconds {
			if s == seconds/2 {
				town.publish(all[1], n)
			}
			for i := range pace {
				junk := fmt.Appendf(frame(meshTag(testName), kindNotice), "junk %d %d %s", s, i, strings.Repeat("x", 200))
				h.packet(all[0], append([]byte{msgUser}, junk...))
				time.Sleep(time.Second / pace)
			}
		}
		if !town.told(all, n)() {
			t.Error("the flood kept a notice from somebody")
		}
		c := all[0].Counters()
		most := noNewsBurst + noNewsRate*(seconds+1) + 1
		if got := town.of(all[0]).checked(); got > most {
			t.Errorf("%d signatures checked for %d junk notices, want at most %d", got, seconds*pace, most)
		}
		if c["rate"] < seconds*pace/2 || c["no-news"] < noNewsBurst {
			t.Errorf("counters %v", c)
		}
		for _, g := range all[1:] { // junk is not told further
			if got := town.of(g).checked(); got > 1 {
				t.Errorf("%s checked %d signatures, want 1", g.id.Name, got)
			}
		}
	})
}

// TestHostileAnswerIsRationed: a member that says it holds other notices is
// asked, answers with as much junk as fits, and does so again and again.
func TestHostileAnswerIsRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		all := v.populate(1, 1, town.keep)
		v.within(20*time.Second, "two nodes see each other", allSee(all))
		h := hostile{v.person(66, discovery.RoleServer), v}
		if err := all[0].Introduce(h.chain); err != nil {
			t.Fatal(err)
		}
		ln, err := v.w.host(h.id.Addr).Listen("tcp", netip.AddrPortFrom(h.id.Addr, DefaultPort))
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				r := bounded(c)
				if kind, err := r.ReadByte(); err != nil || kind != streamMark {
					c.Close() // memberlist knocks
					continue
				}
				asked++
				if _, err := readFrame(r); err == nil {
					var junk [][]byte
					for i := range maxNotices {
						junk = append(junk, fmt.Appendf(nil, "junk %d %d", asked, i))
					}
					writeFrame(c, appendNotices(frame(meshTag(testName), kindNotices), junk, true))
				}
				c.Close()
			}
		}()
		for i := range 600 {
			f := append(frame(meshTag(testName), kindHeld), fmt.Sprintf("%08d....", i)...)
			h.packet(all[0], append([]byte{msgUser}, f...))
			time.Sleep(100 * time.Millisecond)
		}
		ln.Close()
		time.Sleep(time.Second)
		if asked == 0 || asked > 60/5+2 {
			t.Errorf("asked %d times in a minute, want one in 5 s", asked)
		}
		if got, most := town.of(all[0]).checked(), noNewsBurst+62*noNewsRate; got > most || got < noNewsBurst {
			t.Errorf("%d signatures checked, want %d-%d", got, noNewsBurst, most)
		}
	})
}

// TestNewsGivesTheRefusedAnotherChance: what was wrong may be right once
// another notice came, whatever the order.
func TestNewsGivesTheRefusedAnotherChance(t *testing.T) {
	v := newVillage(t)
	var opened bool
	var judged []string
	g, err := New(func() Options {
		o := v.person(1, discovery.RoleGateway).options(v.w, v.root)
		o.Judge = func(b []byte) bool {
			judged = append(judged, string(b))
			switch string(b) {
			case "key":
				opened = true
				return true
			case "door":
				return opened
			}
			return false
		}
		return o
	}())
	if err != nil {
		t.Fatal(err)
	}
	from := v.person(2, discovery.RoleServer).id.Addr
	if g.weigh([]byte("door"), from) != outcomeNoNews || g.weigh([]byte("door"), from) != outcomeKnown {
		t.Error("a refused notice is judged twice")
	}
	if !g.weighAll([][]byte{[]byte("wall"), []byte("door"), []byte("key")}, from) {
		t.Error("no news in a list that has some")
	}
	if want := []string{"door", "wall", "key", "wall", "door", "wall"}; !slices.Equal(judged, want) {
		t.Errorf("judged %q, want %q", judged, want)
	}
	if g.weigh([]byte("door"), from) != outcomeKnown {
		t.Error("news is judged twice")
	}
}
