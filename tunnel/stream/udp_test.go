package stream

import (
	"context"
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"drawbridge/tunnel"
)

// TestStreamGoesBackToUDP: while UDP is blocked a trial loses nothing; when it
// works all goes by UDP; when it falls silent again, by the stream.
func TestStreamGoesBackToUDP(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	udp := newDevice(t) // where the gateway is dialled by UDP: nothing answers there yet
	w.wish.UDP = udp.addr
	st := w.up(t)
	send := func(n uint64) {
		t.Helper()
		w.serverDevice.put(t, data(1, n, 128), st.Local)
	}
	byStream := func(n uint64) (back netip.AddrPort) {
		t.Helper()
		got, back := w.gwDevice.get(t, soon)
		if got == nil || counterOf(got) != n {
			t.Fatalf("datagram %d: %d bytes by the stream", n, len(got))
		}
		return back
	}
	byUDP := func(n uint64) (back netip.AddrPort) {
		t.Helper()
		got, back := udp.get(t, soon)
		if got == nil || counterOf(got) != n {
			t.Fatalf("datagram %d: %d bytes by UDP", n, len(got))
		}
		return back
	}
	send(1)
	back := byStream(1)
	w.gwDevice.put(t, data(7, 1, 128), back) // now the own index is known
	if got, _ := w.serverDevice.get(t, soon); got == nil {
		t.Fatal("nothing came by the stream")
	}

	// Blocked: the trial and what came behind it are late, and not lost.
	w.carrier.hasten()
	began := time.Now()
	send(2)
	send(3)
	byUDP(2)
	byStream(2)
	if d := time.Since(began); d < trialHold || d > trialHold+time.Second {
		t.Errorf("held for %s", d)
	}
	byStream(3)
	send(4)
	byStream(4)

	// A forged answer is none.
	w.carrier.hasten()
	send(5)
	natted := byUDP(5)
	udp.put(t, data(99, 5, 128), natted)
	byStream(5)
	send(6)
	byStream(6)

	// It works: at once, and what was held goes by UDP too.
	w.carrier.hasten()
	send(7)
	send(8)
	udp.put(t, data(7, 7, 128), byUDP(7))
	byUDP(8)
	send(9)
	byUDP(9)
	for range 3 { // one by the forger; WireGuard refuses it
		if got, from := w.serverDevice.get(t, soon); got == nil || from != st.Local {
			break
		}
	}
	for end := time.Now().Add(udpSteady + 500*time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		udp.put(t, data(7, 100, 128), natted)
	}
	if s := w.carrier.Status(); !s[0].UDP || !s[0].Up {
		t.Fatalf("UDP works for a while, status says %+v", s)
	}
	if got, _ := w.gwDevice.get(t, 10*time.Millisecond); got != nil {
		t.Errorf("%d also came by the stream", counterOf(got))
	}

	// It falls silent.
	send(10)
	byUDP(10)
	time.Sleep(udpSilent + 100*time.Millisecond)
	send(11)
	byStream(11)
	if s := w.carrier.Status(); s[0].UDP {
		t.Errorf("UDP is silent, status says %+v", s)
	}
	if c := w.carrier.Counters(); c["udp-trials"] != 3 || c["udp-returns"] != 1 || c["udp-relapses"] != 1 {
		t.Errorf("counted %v", c)
	}
}

// TestStreamTrialUnderLoad: a trial keeps no more back than it has room for.
func TestStreamTrialUnderLoad(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.wish.UDP = newDevice(t).addr
	st := w.up(t)
	w.carrier.hasten()
	const n = 80
	for i := range uint64(n) {
		size := 1312
		if i == 0 {
			size = 128
		}
		w.serverDevice.put(t, data(1, i, size), st.Local)
	}
	began := time.Now()
	for i := range uint64(n) {
		if got, _ := w.gwDevice.get(t, soon); got == nil || counterOf(got) != i {
			t.Fatalf("datagram %d: %d bytes", i, len(got))
		}
	}
	if d := time.Since(began); d >= trialHold {
		t.Errorf("held for %s", d)
	}
}

// TestCarrierNeverWaits: Set and Status return at once, whatever hangs.
func TestCarrierNeverWaits(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	c := NewCarrier(CarrierOptions{Device: newDevice(t).addr, TLS: func(tunnel.Key) (*tls.Config, error) {
		<-hang
		return nil, errWho
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	to := netip.MustParseAddrPort("192.0.2.1:443")
	began := time.Now()
	for range 100 {
		c.Set([]tunnel.Stream{{Key: tunnel.Key{1}, To: to, UDP: newDevice(t).addr}})
		c.Status()
		c.Set(nil)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %s", d)
	}
	close(hang)
	cancel()
	<-done
}
