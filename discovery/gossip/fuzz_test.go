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
	}} {
		b, err := encodeRecord(record{ID: p.id.ID, Seq: 300, Floor: 9, Leaf: digest{1}, Announcement: a})
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
		if !sameAnnouncement(r.Announcement, r2.Announcement) || r.ID != r2.ID || r.Seq != r2.Seq || r.Floor != r2.Floor || r.Leaf != r2.Leaf {
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
	g, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	p := newPerson(root, 2, discovery.RoleServer)
	f.Add(appendItem(frame(meshTag(testName), kindItems), item{chain: p.chain, record: p.signed(testName, record{Seq: 1})}))
	f.Add(appendWant(frame(meshTag(testName), kindWant), []discovery.NodeID{p.id.ID}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g.take(b, p.id.Addr)
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
	f.Fuzz(func(t *testing.T, b []byte) {
		out, why := g.sieve.stream(msgPushPull, bytes.NewReader(b), p.id.Addr)
		if why != "" {
			return
		}
		r := bufio.NewReader(bytes.NewReader(out[1:]))
		head, err := readMessage(r, msgPushPull)
		if err != nil || head.Nodes > maxNodes || head.UserStateLen != 0 {
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
