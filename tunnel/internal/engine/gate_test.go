package engine

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/tun/tuntest"

	"drawbridge/tunnel"
)

func packet(src, dst string) []byte {
	b := make([]byte, 100)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], 100)
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return b
}

// passed sends n packets to dst one after another and counts what passes.
func (g *gate) passed(n int, dst string) (passed int) {
	for range n {
		sizes := []int{100}
		g.hold([][]byte{packet("10.1.0.1", dst)}, sizes, 0)
		if sizes[0] > 0 {
			passed++
		}
	}
	return passed
}

// asked is a gate whose wireguard-go answers what is stored.
type asked struct {
	*gate
	mu sync.Mutex
	at map[tunnel.Key]time.Time
}

func newAsked(c *tunnel.Config) *asked {
	a := &asked{gate: newGate(), at: map[tunnel.Key]time.Time{}}
	a.ask = func() (map[tunnel.Key]time.Time, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		out := map[tunnel.Key]time.Time{}
		for k, t := range a.at {
			out[k] = t
		}
		return out, nil
	}
	a.set(nil, c)
	return a
}

func (a *asked) shook(k tunnel.Key, t time.Time) {
	a.mu.Lock()
	a.at[k] = t
	a.mu.Unlock()
}

// settle waits until the answer to a question of now is in.
func (a *asked) settle() {
	a.asking.Wait()
	a.next.Store(0)
	a.learn(time.Now())
	a.asking.Wait()
}

func TestGateHoldsPeersWithoutSession(t *testing.T) {
	c := crowd(3)
	a := newAsked(&c)
	if n := a.passed(1000, "10.1.0.2"); n != waiting {
		t.Errorf("%d packets to a silent peer passed, want %d", n, waiting)
	}
	if n := a.passed(1000, "10.1.0.3"); n != waiting {
		t.Errorf("%d packets to another passed, want %d", n, waiting)
	}
	if n := a.passed(1000, "10.9.9.9"); n != 1000 {
		t.Errorf("%d packets to nobody passed; they are wireguard-go's to drop", n)
	}
	a.heard(packet("10.1.0.2", "10.1.0.1"))
	if n := a.passed(1000, "10.1.0.2"); n != 1000 {
		t.Errorf("%d packets passed to a peer that was heard", n)
	}
	a.shook(member(1).Key, time.Now())
	a.settle()
	if n := a.passed(1000, "10.1.0.3"); n != 1000 {
		t.Errorf("%d packets passed to a peer that shook hands", n)
	}
	a.shook(member(2).Key, time.Now().Add(-sessionLife))
	a.settle()
	if n := a.passed(1000, "10.1.0.4"); n != waiting {
		t.Errorf("%d packets passed to a peer that shook hands too long ago", n)
	}
}

func TestGateTriesAgainWhenWireguardHasGivenUp(t *testing.T) {
	c := crowd(1)
	a := newAsked(&c)
	a.passed(1000, "10.1.0.2")
	a.peers[member(0).Key].since.Add(-int64(giveUp + time.Second))
	if n := a.passed(1000, "10.1.0.2"); n != waiting {
		t.Errorf("%d packets passed later, want %d", n, waiting)
	}
}

// TestGateOpensSoonAfterAHandshake is for who sends seldom and hears nothing.
func TestGateOpensSoonAfterAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(1)
		a := newAsked(&c)
		defer a.close()
		a.passed(1000, "10.1.0.2")
		time.Sleep(time.Second)
		a.shaken()
		time.Sleep(200 * time.Millisecond) // the answer takes as long
		a.shook(member(0).Key, time.Now())
		time.Sleep(time.Second)
		if n := a.passed(1, "10.1.0.2"); n != 1 {
			t.Error("the first packet after the handshake did not pass")
		}
		a.asking.Wait()
		a.held.Store(false)
		a.shaken()
		if a.busy.Load() {
			t.Error("asks although nothing was held")
		}
	})
}

func TestGateFollowsTheWish(t *testing.T) {
	before := crowd(2)
	before.Peers[0].AllowedIPs = append(before.Peers[0].AllowedIPs, netip.MustParsePrefix("192.168.0.0/16"))
	a := newAsked(&before)
	first, second := before.Peers[0], before.Peers[1]
	a.heard(packet(first.AllowedIPs[0].Addr().String(), "10.1.0.1"))
	if n := a.passed(100, "192.168.7.7"); n != 100 {
		t.Errorf("%d packets passed to a network behind a peer that was heard", n)
	}

	// The network moves to the silent peer, and a part of it stays.
	after := crowd(2)
	after.Peers[0].AllowedIPs = append(after.Peers[0].AllowedIPs, netip.MustParsePrefix("192.168.7.0/24"))
	after.Peers[1].AllowedIPs = append(after.Peers[1].AllowedIPs, netip.MustParsePrefix("192.168.0.0/16"))
	a.set(&before, &after)
	if n := a.passed(100, "192.168.8.8"); n != waiting {
		t.Errorf("%d packets passed to a network that moved to a silent peer", n)
	}
	if n := a.passed(100, "192.168.7.7"); n != 100 {
		t.Errorf("%d packets passed to the part that stayed", n)
	}

	// A new epoch ends the session; a peer that goes is nobody's.
	again := crowd(2)
	again.Peers[0].Epoch = 1
	again.Peers = again.Peers[:1]
	a.set(&after, &again)
	if n := a.passed(100, first.AllowedIPs[0].Addr().String()); n != waiting {
		t.Errorf("%d packets passed after a new epoch", n)
	}
	if n := a.passed(100, second.AllowedIPs[0].Addr().String()); n != 100 {
		t.Errorf("%d packets passed to a peer that is gone", n)
	}
	if len(a.peers) != 1 || len(a.doors) != 1 || len(a.wide) != 0 {
		t.Errorf("%d peers, %d addresses, %d networks remembered", len(a.peers), len(a.doors), len(a.wide))
	}
}

// TestSilentPeersCostLittle pours packets to many peers that never came.
func TestSilentPeersCostLittle(t *testing.T) {
	const peers, each = 300, 200
	c := crowd(peers)
	tun := tuntest.NewChannelTUN()
	e, err := Start(tun.TUN(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range each {
		for i := range peers {
			tun.Outbound <- packet("10.1.0.1", member(i).AllowedIPs[0].Addr().String())
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Each packet that waits has a buffer of 64 kB.
	if got, most := int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(peers*(waiting+2)<<16); got > most {
		t.Errorf("%d MB for %d packets to each of %d silent peers, want at most %d MB", got>>20, each, peers, most>>20)
	}
}

func BenchmarkGate(b *testing.B) {
	c := crowd(1000)
	a := newAsked(&c)
	a.heard(packet("10.1.0.2", "10.1.0.1"))
	packets, sizes := make([][]byte, 128), make([]int, 128)
	for i := range packets {
		packets[i], sizes[i] = packet("10.1.0.1", "10.1.0.2"), 100
	}
	b.ReportAllocs()
	for b.Loop() {
		a.hold(packets, sizes, 0)
	}
}
