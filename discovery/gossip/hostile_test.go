package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"
)

// hostile is a member with a good certificate and its own software.
type hostile struct {
	*person
	v *village
}

func (h hostile) packet(to *villager, messages ...[]byte) {
	at := netip.AddrPortFrom(h.id.Addr, DefaultPort)
	for _, b := range messages {
		h.v.w.send(b, at, netip.AddrPortFrom(to.id.Addr, DefaultPort))
	}
}

func (h hostile) all(messages ...[]byte) {
	for _, g := range h.v.list {
		h.packet(g, messages...)
	}
}

func (h hostile) dial(t *testing.T, to *villager) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := h.v.w.host(h.id.Addr).DialContext(ctx, "tcp", netip.AddrPortFrom(to.id.Addr, DefaultPort))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// besiege is five honest nodes and a hostile member that all know.
func besiege(t *testing.T) (*village, []*villager, hostile) {
	v := newVillage(t)
	all := v.populate(2, 3)
	v.within(20*time.Second, "five nodes see each other", allSee(all))
	h := hostile{v.person(66, discovery.RoleServer), v}
	for _, g := range all {
		if err := g.Introduce(h.chain); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	return v, all, h
}

func word(kind byte, inc uint32, node, from discovery.NodeID) []byte {
	m := message{Type: kind, Incarnation: inc, Node: string(node), From: string(from)}
	return m.bytes()
}

func aliveWord(inc uint32, p *person, change func(*message)) []byte {
	m := message{
		Type:        msgAlive,
		Incarnation: inc,
		Node:        string(p.id.ID),
		Addr:        p.id.Addr.AsSlice(),
		Port:        DefaultPort,
		Vsn:         []byte{1, 5, 2, 0, 0, 0},
	}
	if change != nil {
		change(&m)
	}
	return m.bytes()
}

func withCRC(b []byte) []byte {
	out := append([]byte{msgCRC}, make([]byte, 4)...)
	binary.BigEndian.PutUint32(out[1:], crc32.ChecksumIEEE(b))
	return append(out, b...)
}

func compound(parts ...[]byte) []byte {
	b := []byte{msgCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return slices.Concat(append([][]byte{b}, parts...)...)
}

func TestHostileIncarnationsDoNotEvict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all, h := besiege(t)
		victim := all[4]
		for _, inc := range []uint32{0xffffffff, maxIncarnation + 1, maxIncarnation, 1 << 20, window + 500} {
			h.all(
				word(msgDead, inc, victim.id.ID, h.id.ID),
				word(msgSuspect, inc, victim.id.ID, h.id.ID),
				word(msgDead, inc, victim.id.ID, victim.id.ID),
				withCRC(compound(word(msgDead, inc, victim.id.ID, h.id.ID), aliveWord(inc, victim.person, nil))),
			)
		}
		time.Sleep(50 * time.Millisecond)
		if got := all[0].Counters()["bad-incarnation"]; got < 20 {
			t.Errorf("%d bad incarnations counted, want at least 20", got)
		}
		for range 600 {
			time.Sleep(time.Second)
			if !allSee(all)() {
				t.Fatalf("a node was lost: %s", brief(all[0].Members()))
			}
		}
	})
}

func TestHostileRatchetIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, all, h := besiege(t)
		victim := all[4]
		// At the edge of the window every time: the victim must refute, sign
		// again, and be alive for all at the end.
		for range 60 {
			all[0].book.mu.Lock()
			edge := all[0].book.entries[victim.id.ID].floor + window
			all[0].book.mu.Unlock()
			h.all(word(msgDead, edge, victim.id.ID, h.id.ID))
			time.Sleep(time.Second)
		}
		v.within(30*time.Second, "the victim is alive for all", allSee(all))
		all[0].book.mu.Lock()
		floor := all[0].book.entries[victim.id.ID].floor
		all[0].book.mu.Unlock()
		if floor == 0 || floor > 60*(window+1) {
			t.Errorf("floor %d after 60 pushes", floor)
		}
		if got := all[4].Counters()["clone"]; got == 0 {
			t.Error("the victim noticed nothing")
		}
	})
}

func TestHostileOrdinaryDeathIsRefuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, all, h := besiege(t)
		for inc := range uint32(8) {
			h.all(word(msgDead, inc+1, all[4].id.ID, h.id.ID))
		}
		v.within(3*time.Second, "refuted", allSee(all))
	})
}

// TestHostileDeathIsShort: whatever death a liar tells of a node that lives, and
// whomever but the node they tell, the node hears of it and is alive again.
func TestHostileDeathIsShort(t *testing.T) {
	for _, tt := range []struct {
		name string
		tell func(t *testing.T, h hostile, others []*villager, victim *person, inc uint32)
	}{
		{"dead", func(_ *testing.T, h hostile, others []*villager, victim *person, inc uint32) {
			for _, g := range others {
				h.packet(g, word(msgDead, inc, victim.id.ID, h.id.ID))
			}
		}},
		{"farewell in its name", func(_ *testing.T, h hostile, others []*villager, victim *person, inc uint32) {
			for _, g := range others {
				h.packet(g, word(msgDead, inc, victim.id.ID, victim.id.ID))
			}
		}},
		{"farewell after a suspicion", func(_ *testing.T, h hostile, others []*villager, victim *person, inc uint32) {
			for _, g := range others {
				h.packet(g, word(msgSuspect, inc, victim.id.ID, h.id.ID), word(msgDead, inc, victim.id.ID, victim.id.ID))
			}
		}},
		{"farewell told to a server", func(_ *testing.T, h hostile, others []*villager, victim *person, inc uint32) {
			h.packet(others[3], word(msgDead, inc, victim.id.ID, victim.id.ID))
		}},
		{"left, in a push/pull", func(t *testing.T, h hostile, others []*villager, victim *person, inc uint32) {
			entry := message{
				Type: pushNode, Node: string(victim.id.ID), Addr: victim.id.Addr.AsSlice(), Port: DefaultPort,
				Incarnation: inc, State: peerLeft, Vsn: []byte{1, 5, 2, 0, 0, 0},
			}
			c := h.dial(t, others[0])
			c.SetDeadline(time.Now().Add(time.Second))
			go c.Write(append(pushPullHead(1, 0), entry.pack(nil)...))
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, all, h := besiege(t)
				others, victim := all[:4], all[4]
				var took []time.Duration
				for range 10 {
					others[0].book.mu.Lock()
					top := others[0].book.entries[victim.id.ID].top
					others[0].book.mu.Unlock()
					tt.tell(t, h, others, victim.person, top+1)
					for range 50 {
						if time.Sleep(10 * time.Millisecond); !allSee(all)() {
							break
						}
					}
					if allSee(all)() {
						t.Fatal("nobody believed it: nothing is tried here")
					}
					took = append(took, v.within(15*time.Second, "alive for all", allSee(all)))
					time.Sleep(1700 * time.Millisecond)
				}
				// Now and then nobody happens to tell one of the five at once.
				slices.Sort(took)
				t.Logf("alive again after %s", took)
				if took[len(took)/2] > time.Second {
					t.Errorf("alive again after %s as a rule, want a moment", took[len(took)/2])
				}
			})
		})
	}
}

func TestHostileAccusationsAreRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all, h := besiege(t)
		for inc := range uint32(500) {
			h.packet(all[0], word(msgSuspect, inc+1, all[4].id.ID, h.id.ID))
			time.Sleep(10 * time.Millisecond) // so that they arrive in order
		}
		time.Sleep(time.Second)
		if got := all[0].Counters()["rate"]; got < 350 {
			t.Errorf("%d accusations over the ration, want at least 350", got)
		}
	})
}

func TestHostileMessagesAreDropped(t *testing.T) {
	other := newAuthority("other root")
	tests := []struct {
		name string
		want cause
		b    func(v *village, all []*villager, h hostile) []byte
	}{
		{"no message", causeMalformed, func(*village, []*villager, hostile) []byte { return []byte{99} }},
		{"compressed", causeCompressed, func(*village, []*villager, hostile) []byte { return []byte{msgCompress, 0x80} }},
		{"encrypted", causeCompressed, func(*village, []*villager, hostile) []byte { return []byte{msgEncrypt, 0x80} }},
		{"labelled", causeMalformed, func(*village, []*villager, hostile) []byte { return []byte{244, 1, 'x', msgPing} }},
		{"compound in a compound", causeMalformed, func(*village, []*villager, hostile) []byte {
			return compound(compound([]byte{msgPing, 0x80}))
		}},
		{"truncated compound", causeMalformed, func(*village, []*villager, hostile) []byte { return []byte{msgCompound, 255, 0} }},
		{"message as an array", causeMalformed, func(_ *village, all []*villager, _ hostile) []byte {
			return []byte{msgDead, 0x93, 0xce, 0xff, 0xff, 0xff, 0xff, 0xa1, 'x', 0xa1, 'y'}
		}},
		{"field twice", causeMalformed, func(*village, []*villager, hostile) []byte {
			b := packMap([]byte{msgNack}, 2)
			return packUint(packRaw(packUint(packRaw(b, "SeqNo"), 1), "SeqNo"), 2)
		}},
		{"ping that answers elsewhere", causeBadSource, func(_ *village, all []*villager, h hostile) []byte {
			m := message{Type: msgPing, SourceAddr: all[1].id.Addr.AsSlice(), SourcePort: DefaultPort}
			return m.bytes()
		}},
		{"indirect ping to nobody", causeUnknownNode, func(_ *village, all []*villager, h hostile) []byte {
			m := message{Type: msgIndirectPing, Addr: []byte{10, 77, 9, 9}, Port: DefaultPort}
			return m.bytes()
		}},
		{"alive elsewhere", causeBadAddress, func(_ *village, all []*villager, h hostile) []byte {
			return aliveWord(9, all[3].person, func(m *message) { m.Addr = h.id.Addr.AsSlice() })
		}},
		{"alive with another port", causeMalformed, func(_ *village, all []*villager, h hostile) []byte {
			return aliveWord(9, all[3].person, func(m *message) { m.Port = 22 })
		}},
		{"alive with versions that exclude all", causeMalformed, func(_ *village, all []*villager, h hostile) []byte {
			return aliveWord(9, all[3].person, func(m *message) { m.Vsn = []byte{5, 5, 5, 0, 0, 0} })
		}},
		{"alive without versions", causeMalformed, func(_ *village, all []*villager, h hostile) []byte {
			return aliveWord(9, all[3].person, func(m *message) { m.Vsn = nil })
		}},
		{"alive of nobody", causeUnknownNode, func(v *village, _ []*villager, _ hostile) []byte {
			return aliveWord(1, v.person(99, discovery.RoleServer), nil)
		}},
		{"dead of nobody", causeUnknownNode, func(v *village, _ []*villager, h hostile) []byte {
			return word(msgDead, 1, v.person(99, discovery.RoleServer).id.ID, h.id.ID)
		}},
		{"record of another mesh", causeForeign, func(_ *village, _ []*villager, h hostile) []byte {
			return userFrame("other", item{record: h.signed("other", record{Seq: 1})})
		}},
		{"record under another root", causeForeign, func(_ *village, _ []*villager, h hostile) []byte {
			p := newPerson(other, 5, discovery.RoleGateway)
			return userFrame(testName, item{chain: p.chain, record: p.signed(testName, record{Seq: 1})})
		}},
		{"record signed for another mesh", causeBadSignature, func(_ *village, _ []*villager, h hostile) []byte {
			return userFrame(testName, item{record: h.signed("other", record{Seq: 1})})
		}},
		{"record forged for another node", causeBadSignature, func(_ *village, all []*villager, h hostile) []byte {
			r := record{ID: all[3].id.ID, Seq: 1 << 40}
			body, err := encodeRecord(r)
			if err != nil {
				panic(err)
			}
			return userFrame(testName, item{record: append(body, h.sign(signedText(testName, body))...)})
		}},
		{"other node's record beside own chain", causeBadSignature, func(_ *village, all []*villager, h hostile) []byte {
			return userFrame(testName, item{chain: h.chain, record: all[3].signed(testName, record{Seq: 1 << 40})})
		}},
		{"stale record", causeStale, func(_ *village, all []*villager, h hostile) []byte {
			return userFrame(testName, item{record: all[3].signed(testName, record{Seq: 2})})
		}},
		{"two records of one number", causeClone, func(_ *village, all []*villager, h hostile) []byte {
			return userFrame(testName, item{record: all[3].signed(testName, record{Seq: 8, Announcement: announcement("twin", 9)})})
		}},
		{"frame of another version", causeMalformed, func(*village, []*villager, hostile) []byte { return []byte{msgUser, 2, 0, 0, 0, 0, 1} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVillage(t)
				all := v.populate(2, 2, func(o *Options) { o.Seq = 7 })
				h := hostile{v.person(66, discovery.RoleServer), v}
				for _, g := range all {
					if err := g.Introduce(h.chain); err != nil {
						t.Fatal(err)
					}
				}
				v.within(20*time.Second, "all see each other", allSee(all))
				time.Sleep(2 * time.Second)
				before, members := all[0].Counters(), brief(all[0].Members())
				h.packet(all[0], tt.b(v, all, h))
				time.Sleep(10 * time.Millisecond)
				after := all[0].Counters()
				if after[string(tt.want)] <= before[string(tt.want)] {
					t.Errorf("%s not counted; before %v, after %v", tt.want, before, after)
				}
				if got := brief(all[0].Members()); got != members {
					t.Errorf("members changed from %s to %s", members, got)
				}
				time.Sleep(20 * time.Second)
				if !allSee(all)() {
					t.Errorf("members after 20 s: %s", brief(all[0].Members()))
				}
			})
		})
	}
}

func userFrame(mesh string, it item) []byte {
	return append([]byte{msgUser}, appendItem(frame(meshTag(mesh), kindItems), it)...)
}

func TestStrangersAreNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, all, h := besiege(t)
		victim := all[4].id.ID
		to := netip.AddrPortFrom(all[0].id.Addr, DefaultPort)
		before := all[0].Counters()["bad-source"]
		sources := []netip.AddrPort{
			netip.MustParseAddrPort("10.77.200.1:7946"),   // in the mesh, nobody's
			netip.MustParseAddrPort("192.0.2.7:7946"),     // outside
			netip.AddrPortFrom(h.id.Addr, DefaultPort+40), // another process on a member's host
		}
		for _, from := range sources {
			v.w.send(word(msgDead, 1, victim, h.id.ID), from, to)
		}
		time.Sleep(20 * time.Millisecond)
		if got := all[0].Counters()["bad-source"] - before; got != 3 {
			t.Errorf("bad-source counted %d times, want 3", got)
		}
		x := hostile{newPerson(newAuthority("other"), 7000, discovery.RoleServer), v}
		c := x.dial(t, all[0])
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a stranger's stream was answered")
		}
	})
}

// pushPullHead is what made a node allocate 112 MB.
func pushPullHead(nodes, user uint32) []byte {
	m := message{Type: msgPushPull, Nodes: nodes, UserStateLen: user, Join: true}
	return m.bytes()
}

func TestHostileStreams(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want cause
	}{
		{"a million nodes", pushPullHead(1<<20, 0), causeOversize},
		{"four thousand nodes too many", pushPullHead(maxNodes+1, 0), causeOversize},
		{"much user state", pushPullHead(0, 20<<20), causeOversize},
		{"compressed", []byte{msgCompress, 0x80}, causeCompressed},
		{"encrypted", []byte{msgEncrypt, 0, 0, 0, 0}, causeCompressed},
		{"labelled", []byte{244, 3, 'l', 'a', 'b', msgPushPull}, causeMalformed},
		{"user message of memberlist", []byte{msgUser, 0x81, 0xaa}, causeMalformed},
		{"frame too long", []byte{streamMark, 0xff, 0xff, 0xff, 0xff}, causeOversize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, all, h := besiege(t)
				var m0, m1 runtime.MemStats
				runtime.ReadMemStats(&m0)
				before := all[0].Counters()[string(tt.want)]
				c := h.dial(t, all[0])
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Second))
				c.Write(tt.b)
				if n, err := io.Copy(io.Discard, c); n != 0 {
					t.Errorf("answered with %d bytes, %v", n, err)
				}
				runtime.ReadMemStats(&m1)
				if got := all[0].Counters()[string(tt.want)]; got != before+1 {
					t.Errorf("%s counted %d times, want 1", tt.want, got-before)
				}
				if got := m1.TotalAlloc - m0.TotalAlloc; got > 4<<20 {
					t.Errorf("allocated %d bytes", got)
				}
			})
		})
	}
}

func TestStreamsPerPeerAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all, h := besiege(t)
		var conns []net.Conn
		for range streamsPerPeer {
			conns = append(conns, h.dial(t, all[0]))
		}
		time.Sleep(10 * time.Millisecond)
		fifth := h.dial(t, all[0])
		fifth.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := fifth.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("fifth stream: %v, want it closed", err)
		}
		if got := all[0].Counters()["stream-limit"]; got != 1 {
			t.Errorf("stream-limit counted %d times, want 1", got)
		}
		// Silent streams end by themselves, and make room.
		time.Sleep(streamTime + time.Second)
		for _, c := range conns {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("silent stream: %v, want it closed", err)
			}
		}
		sixth := h.dial(t, all[0])
		defer sixth.Close()
		sixth.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := sixth.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			t.Error("no room after the silent streams ended")
		}
	})
}

func TestHostileStateInPushPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all, h := besiege(t)
		victim := all[4]
		entry := message{
			Type:        pushNode,
			Node:        string(victim.id.ID),
			Addr:        victim.id.Addr.AsSlice(),
			Port:        DefaultPort,
			Incarnation: 0xffffffff,
			State:       peerLeft,
			Vsn:         []byte{1, 5, 2, 0, 0, 0},
		}
		bad := entry
		bad.Incarnation, bad.State, bad.Vsn = 1, peerAlive, []byte{5, 5, 5, 0, 0, 0}
		c := h.dial(t, all[0])
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		go c.Write(slices.Concat(pushPullHead(2, 0), entry.pack(nil), bad.pack(nil)))
		r := bounded(c)
		if kind, err := r.ReadByte(); err != nil || kind != msgPushPull {
			t.Fatalf("answer %d, %v", kind, err)
		}
		go io.Copy(io.Discard, r)
		for range 60 {
			time.Sleep(time.Second)
			if !allSee(all)() {
				t.Fatalf("a node was lost: %s", brief(all[0].Members()))
			}
		}
	})
}

func TestPrivateKeyOfAnotherRootCannotImport(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	good, bad := v.person(2, discovery.RoleServer), newPerson(newAuthority("other"), 3, discovery.RoleServer)
	blob := func(p *person) []byte {
		return appendItem(frame(meshTag(testName), kindItems), item{chain: p.chain, record: p.signed(testName, record{Seq: 5})})
	}
	g.Import([][]byte{blob(bad), {1, 2, 3}, nil, blob(good)})
	ms := g.Members()
	if len(ms) != 2 {
		t.Fatalf("%d members, want self and one", len(ms))
	}
	i := slices.IndexFunc(ms, func(m discovery.Member) bool { return m.ID == good.id.ID })
	if i < 0 || ms[i].Seq != 5 || ms[i].State != discovery.StateKnown {
		t.Errorf("members %s", brief(ms))
	}
	if c := g.Counters(); c["foreign"] != 1 || c["malformed"] != 2 {
		t.Errorf("counters %v", c)
	}
	// What was imported is exported, and is enough for another.
	g2, err := New(v.person(9, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	g2.Import(g.Export())
	if got := len(g2.Members()); got != 3 {
		t.Errorf("%d members after import of an export, want 3", got)
	}
}

// TestExportNamesGatewaysFirst: a joiner is given as many records as fit into
// an answer, and can do nothing without the gateways'.
func TestExportNamesGatewaysFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 6)
		v.within(20*time.Second, "eight nodes see each other", allSee(all))
		joiner, err := New(v.person(9, discovery.RoleServer).options(v.w, v.root))
		if err != nil {
			t.Fatal(err)
		}
		joiner.Import(all[7].Export()[:2])
		for _, m := range joiner.Members() {
			if m.ID != joiner.opt.Self.ID && m.Role != discovery.RoleGateway {
				t.Errorf("%s among the first two", m.Role)
			}
		}
		if n := len(joiner.Members()); n != 3 {
			t.Errorf("%d members, want self and two gateways", n)
		}
	})
}
