package gossip

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"

	"drawbridge/discovery"
)

func FuzzDecodeRecord(f *testing.F) {
	p := newPerson(newAuthority("root"), 1, discovery.RoleGateway)
	for _, a := range []discovery.Announcement{{}, announcement("x", 7), {
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:1")},
		Draining:  true,
		ENI:       "eni-0",
		Trust:     300,
	}, {
		Seen: whereabouts(2), Local: whereabouts(3), Direct: neighbours(3),
	}, {
		Streams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443")}, Names: []string{"gw.example.com:51820"}, Young: true,
	}} {
		b, err := encodeRecord(record{ID: p.id.ID, Seq: 300, Floor: 9, Leaf: digest{1}, Whole: digest{byte(a.Trust)}, Announcement: a})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(r)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		r2, err := decodeRecord(again)
		if err != nil {
			t.Fatal(err)
		}
		if !sameAnnouncement(r.Announcement, r2.Announcement) || r.ID != r2.ID || r.Seq != r2.Seq || r.Floor != r2.Floor || r.Leaf != r2.Leaf || r.Whole != r2.Whole {
			t.Fatalf("not the same after a round trip:\n%+v\n%+v", r, r2)
		}
	})
}

func FuzzDecodeItems(f *testing.F) {
	p := newPerson(newAuthority("root"), 1, discovery.RoleGateway)
	rec := p.signed(testName, record{Seq: 1})
	for _, it := range []item{{chain: p.chain}, {record: rec}, {chain: p.chain, record: rec}} {
		f.Add(appendItem(nil, it))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := decodeItems(b)
		if err != nil {
			return
		}
		var again []byte
		for _, it := range items {
			again = appendItem(again, it)
		}
		if !bytes.Equal(b, again) {
			t.Fatalf("not the same after a round trip:\n%x\n%x", b, again)
		}
	})
}

func FuzzMerge(f *testing.F) {
	root := newAuthority("root")
	w := newWorld()
	o := newPerson(root, 1, discovery.RoleGateway).options(w, root)
	newTown(root).keep(&o)
	g, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	p := newPerson(root, 2, discovery.RoleServer)
	f.Add(appendItem(frame(meshTag(testName), kindItems), item{chain: p.chain, record: p.signed(testName, record{Seq: 1})}))
	f.Add(appendWant(frame(meshTag(testName), kindWant), []discovery.NodeID{p.id.ID}))
	f.Add(append(frame(meshTag(testName), kindNotice), newTown(root).notice("x")...))
	f.Add(append(frame(meshTag(testName), kindHeld), "digest..size"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		g.take(b, p.id.Addr)
		for len(g.notices.heard) > 0 {
			h := <-g.notices.heard
			clear(g.notices.waiting)
			if len(h.notice) == 0 || len(h.notice) > maxNotice {
				t.Fatalf("a notice of %d bytes", len(h.notice))
			}
			g.weigh(h.notice, h.from)
		}
		for _, m := range g.Members() {
			if m.ID != p.id.ID && m.ID != o.Self.ID {
				t.Fatalf("unheard of: %+v", m)
			}
		}
	})
}

// lonely is a sieve of a node that knows one other.
func lonely(f *testing.F) (*Gossip, *person) {
	root := newAuthority("root")
	g, err := New(newPerson(root, 1, discovery.RoleGateway).options(newWorld(), root))
	if err != nil {
		f.Fatal(err)
	}
	p := newPerson(root, 2, discovery.RoleServer)
	if err := g.Introduce(p.chain); err != nil {
		f.Fatal(err)
	}
	return g, p
}

func FuzzPacket(f *testing.F) {
	g, p := lonely(f)
	ping := message{Type: msgPing, SeqNo: 1, Node: string(g.opt.Self.ID)}
	f.Add(ping.bytes())
	f.Add(aliveWord(1, p, nil))
	f.Add(withCRC(compound(ping.bytes(), word(msgDead, 1, p.id.ID, p.id.ID), userFrame(testName, item{chain: p.chain}))))
	f.Add(word(msgSuspect, 0xffffffff, p.id.ID, p.id.ID))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, out := range g.sieve.packet(b, p.id.Addr) {
			m, err := parseMessage(out)
			if err != nil {
				t.Fatalf("what passed cannot be read: %x", out)
			}
			if m.Incarnation > window {
				t.Fatalf("incarnation %d passed", m.Incarnation)
			}
			if !bytes.Equal(m.bytes(), out) {
				t.Fatalf("two forms of one message: %x", out)
			}
		}
	})
}

func FuzzPushPull(f *testing.F) {
	g, p := lonely(f)
	entry := message{Type: pushNode, Node: string(p.id.ID), Addr: p.id.Addr.AsSlice(), Port: DefaultPort, Incarnation: 3, Vsn: []byte{1, 5, 2, 0, 0, 0}}
	user := appendItem(frame(meshTag(testName), kindItems), item{chain: p.chain})
	f.Add(pushPullHead(1<<20, 0)[1:])
	f.Add(append(pushPullHead(1, 0)[1:], entry.pack(nil)...))
	f.Add(append(append(pushPullHead(1, uint32(len(user)))[1:], entry.pack(nil)...), user...))
	f.Add(withNotices(pushPullHead(0, 0), []byte("digest..size"))[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		out, why := g.sieve.stream(msgPushPull, bytes.NewReader(b), p.id.Addr)
		if why != "" {
			return
		}
		r := bufio.NewReader(bytes.NewReader(out[1:]))
		head, err := readMessage(r, msgPushPull)
		if err != nil || head.Nodes > maxNodes || head.UserStateLen != 0 || head.Notices != nil {
			t.Fatalf("header %+v, %v", head, err)
		}
		for range head.Nodes {
			if _, err := readMessage(r, pushNode); err != nil {
				t.Fatal(err)
			}
		}
		if n, _ := r.Read(make([]byte, 1)); n != 0 {
			t.Fatal("bytes left over")
		}
	})
}

// FuzzDecodeNotices reads an answer: what is taken is bounded, and packed again
// it is the same.
func FuzzDecodeNotices(f *testing.F) {
	f.Add(appendNotices(nil, nil, false))
	f.Add(appendNotices(nil, [][]byte{{1}, bytes.Repeat([]byte{2}, 300)}, true))
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, more, err := decodeNotices(b)
		if err != nil {
			return
		}
		for _, n := range list {
			if len(n) == 0 || len(n) > maxNotice {
				t.Fatalf("a notice of %d bytes", len(n))
			}
		}
		if again := appendNotices(nil, list, more); !bytes.Equal(again, b) {
			t.Fatalf("not the same after a round trip:\n%x\n%x", b, again)
		}
	})
}

// FuzzDecodeNames reads a fetch, and answers it.
func FuzzDecodeNames(f *testing.F) {
	l := ledger{}
	for i := range 3 {
		n := bytes.Repeat([]byte{byte(i)}, 100)
		l.list = append(l.list, statement{digestOf(n), n})
	}
	f.Add(appendNames(nil, l))
	f.Add([]byte("eight by"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := decodeNames(b)
		if err != nil {
			return
		}
		var again []byte
		for _, n := range names {
			again = append(again, n[:]...)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("not the same after a round trip:\n%x\n%x", b, again)
		}
		list, more := l.lacking(names)
		if len(list) > len(l.list) || more {
			t.Fatalf("%d notices of %d, more %v", len(list), len(l.list), more)
		}
	})
}

// FuzzWithNotices adds to whatever memberlist writes: what it wrote is read the
// same, and what is told can be read.
func FuzzWithNotices(f *testing.F) {
	f.Add(pushPullHead(3, 70000), []byte("digest..size"))
	f.Add([]byte{msgPushPull, 0x8f, 0xa0, 0xc0}, []byte("x"))
	f.Fuzz(func(t *testing.T, b, told []byte) {
		if len(told) > maxRaw {
			return
		}
		out := withNotices(b, told)
		if bytes.Equal(out, b) || len(b) == 0 {
			return
		}
		was, err := readMessage(bytes.NewReader(b[1:]), msgPushPull)
		if err != nil || was.Notices != nil {
			return
		}
		got, err := readMessage(bytes.NewReader(out[1:]), msgPushPull)
		if err != nil || !bytes.Equal(got.Notices, told) || !bytes.Equal(got.bytes(), was.bytes()) {
			t.Fatalf("%x became %x: %v", b, out, err)
		}
	})
}
