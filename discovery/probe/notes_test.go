package probe

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"
)

func sized(m *member, size int) discovery.ProbePeer {
	p := peerOf(m, "idc")
	p.Size = size
	return p
}

// narrow makes the way from one address to another carry at most size bytes.
func (n *memNet) narrow(from, to netip.AddrPort, size int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.widths[[2]netip.AddrPort{from, to}] = size
}

func TestSizeArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		n.narrow(srv.at, gw.at, 600) // the other direction does not matter
		gw.Set(wish(sized(srv, 1440)))
		srv.Set(onDemand(peerOf(gw, "")))
		time.Sleep(2 * time.Second)
		o := gw.of("srv")
		if o.Size != 1440 || o.SizeLost != 0 || o.SizeWhole < 3 || time.Since(o.SizeAt) > time.Second {
			t.Errorf("%+v", o)
		}
		if o := srv.of("gw"); o.Size != 0 || o.SizeWhole != 0 {
			t.Errorf("the answering side measured: %+v", o)
		}
	})
}

func TestSizeIsSwallowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		n.narrow(gw.at, srv.at, 1400)
		gw.Set(wish(sized(srv, 1440)))
		srv.Set(onDemand(peerOf(gw, "")))
		var longest atomic.Int64
		t0 := time.Now()
		for time.Since(t0) < 5*time.Second {
			time.Sleep(50 * time.Millisecond)
			if o := gw.of("srv"); !o.Proof.IsZero() {
				longest.Store(max(longest.Load(), int64(time.Since(o.Proof))))
			}
		}
		if o := gw.of("srv"); o.Size != 1440 || o.SizeWhole != 0 || o.SizeLost < 3 || o.SizeLost > 5 {
			t.Errorf("%+v", o)
		}
		if d := time.Duration(longest.Load()); d > 300*time.Millisecond {
			t.Errorf("%v without proof: filled packets took the place of pulses", d)
		}
		if s, _, _ := gw.saw(); s.SendErr != "" || !s.Paused.IsZero() {
			t.Errorf("%+v", s)
		}

		// Another size begins anew, and 0 ends it.
		gw.Set(wish(sized(srv, 1400)))
		time.Sleep(time.Second)
		if o := gw.of("srv"); o.Size != 1400 || o.SizeWhole < 2 || o.SizeLost != 0 {
			t.Errorf("%+v", o)
		}
		gw.Set(wish(sized(srv, 0)))
		time.Sleep(time.Second)
		if o := gw.of("srv"); o.Size != 0 || o.SizeWhole != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// TestSizeTooBigHere: what the own system refuses is a size that does not pass,
// and no failure to send.
func TestSizeTooBigHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.conn.limit(1412, &net.OpError{Op: "write", Net: "udp", Err: syscall.EMSGSIZE})
		gw.Set(wish(sized(srv, 1441)))
		srv.Set(onDemand(peerOf(gw, "")))
		time.Sleep(5 * time.Second)
		if o := gw.of("srv"); o.SizeLost < 3 || o.SizeWhole != 0 {
			t.Errorf("%+v", o)
		}
		c := gw.Counters()
		if s, _, _ := gw.saw(); s.SendErr != "" || c.SendErrors != 0 || c.TooBig < 3 {
			t.Errorf("send error %q, %+v", s.SendErr, c)
		}
		// Another failure says nothing of the size.
		gw.conn.limit(1412, &net.OpError{Op: "write", Net: "udp", Err: syscall.ENOBUFS})
		gw.Set(wish(sized(srv, 1450)))
		time.Sleep(5 * time.Second)
		if o := gw.of("srv"); o.Size != 1450 || o.SizeLost != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// TestSizeAnswersComeLate: an answer after the next question is an answer.
func TestSizeAnswersComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(750 * time.Millisecond) // 1.5 s there and back
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		gw.Set(wish(sized(srv, 1440)))
		srv.Set(onDemand(peerOf(gw, "")))
		time.Sleep(12 * time.Second)
		if o := gw.of("srv"); o.SizeLost > 1 || time.Since(o.SizeAt) > 2*time.Second {
			t.Errorf("%+v", o)
		}
	})
}

func TestSeenIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(10 * time.Millisecond)
		gw, srv := start(t, n, "gw", "10.0.0.1", 1, nil), start(t, n, "srv", "10.0.0.2", 2, nil)
		at := netip.MustParseAddrPort("203.0.113.7:4000")
		p := peerOf(srv, "idc")
		p.Seen = at
		gw.Set(wish(p))
		srv.Set(onDemand(peerOf(gw, "")))
		var notes atomic.Int64
		n.watch(func(_, _ netip.AddrPort, b []byte) {
			if b[0] == noteVersion {
				notes.Add(1)
			}
		})
		time.Sleep(10 * time.Second)
		if o := srv.of("gw"); o.Seen != at {
			t.Errorf("told %v, want %v", o.Seen, at)
		}
		if k := notes.Load(); k < 9 || k > 12 {
			t.Errorf("%d notes in 10 s, want one a second", k)
		}

		p.Seen = netip.MustParseAddrPort("203.0.113.8:4001")
		gw.Set(wish(p))
		time.Sleep(50 * time.Millisecond) // a change does not wait
		if o := srv.of("gw"); o.Seen != p.Seen {
			t.Errorf("told %v, want %v", o.Seen, p.Seen)
		}

		p.Seen = netip.AddrPort{}
		gw.Set(wish(p))
		time.Sleep(2 * time.Second)
		if o := srv.of("gw"); !o.Seen.IsValid() {
			t.Error("forgotten at once")
		}
		time.Sleep(seenForget)
		if o := srv.of("gw"); o.Seen.IsValid() {
			t.Errorf("still told %v", o.Seen)
		}
	})
}

// TestOlderVersion: a node of an earlier version is never sent what it would
// not understand, and nothing is concluded from that.
func TestOlderVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		old := n.listen(netip.AddrPortFrom(addr(t, "10.0.0.2"), port))
		var foreign, pulses atomic.Int64
		n.watch(func(_, to netip.AddrPort, b []byte) {
			switch {
			case to != old.addr:
			case b[0] == wireVersion:
				pulses.Add(1)
			default:
				foreign.Add(1)
			}
		})
		gw.Set(wish(discovery.ProbePeer{
			Node: "old", Addr: old.addr.Addr(), Group: "idc", Size: 1440, Seen: netip.MustParseAddrPort("203.0.113.7:1"),
		}))
		for seq := range uint64(50) {
			time.Sleep(100 * time.Millisecond)
			k := packet{kind: kindPulse, boot: 9, seq: seq + 1, heardBoot: 1, heard: seq}
			_, _ = old.WriteTo(k.encode(make([]byte, maxPacket)), net.UDPAddrFromAddrPort(gw.at))
		}
		time.Sleep(10 * time.Millisecond)
		if foreign.Load() != 0 || pulses.Load() == 0 {
			t.Errorf("%d packets of a version it does not know, %d pulses", foreign.Load(), pulses.Load())
		}
		if o := gw.of("old"); o.Proof.IsZero() || o.SizeLost != 0 || o.SizeWhole != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// TestWholesAreLimited: a hostile peer cannot make us send at its pace, and
// what it says arrived was sent.
func TestWholesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(0)
		gw := start(t, n, "gw", "10.0.0.1", 1, nil)
		evil := n.listen(netip.AddrPortFrom(addr(t, "10.0.0.2"), port))
		gw.Set(discovery.ProbeWish{Interval: time.Hour, Peers: []discovery.ProbePeer{{Node: "evil", Addr: evil.addr.Addr(), Size: 8000}}})
		to := net.UDPAddrFromAddrPort(gw.at)
		k := packet{kind: kindPulse, speaks: noteVersion, boot: 9, seq: 1}
		_, _ = evil.WriteTo(k.encode(make([]byte, maxPacket)), to)
		time.Sleep(time.Second)
		before := gw.Counters()
		ask := note{kind: noteSize, size: 1440, boot: 9}
		for range 1000 {
			ask.seq++
			_, _ = evil.WriteTo(ask.encode(make([]byte, maxSize), 28), to)
			lie := note{kind: noteWhole, size: 8000, boot: 1, seq: 1000 + ask.seq}
			_, _ = evil.WriteTo(lie.encode(make([]byte, maxSize), 28), to)
			time.Sleep(time.Millisecond)
		}
		after := gw.Counters()
		if sent := after.Sent - before.Sent; sent < 10 || sent > 22 {
			t.Errorf("%d packets to 1000 questions in 1 s, want 10, the burst, and own ones", sent)
		}
		if after.Unanswered == before.Unanswered {
			t.Error("not counted")
		}
		if o := gw.of("evil"); o.SizeWhole != 0 || !o.Proof.IsZero() {
			t.Errorf("believed: %+v", o)
		}
	})
}
