package stream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/tunnel"
)

const soon = 3 * time.Second

// TestStreamCarries: what one device sends arrives whole at the other, both
// ways, in every size.
func TestStreamCarries(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	st := w.up(t)
	if !tunnel.Streamed(st.Local) {
		t.Errorf("the device is to dial %s, which is not on the streams' net", st.Local)
	}
	w.serverDevice.put(t, initiation(7), st.Local)
	got, back := w.gwDevice.get(t, soon)
	if !bytes.Equal(got, initiation(7)) || !tunnel.Streamed(back) {
		t.Fatalf("the gateway got %d bytes from %s", len(got), back)
	}
	if s := w.acceptor.Status(); len(s) != 1 || s[0].Local != back || s[0].Key != w.server.key || !s[0].Up {
		t.Errorf("the gateway knows %+v, the device hears %s", s, back)
	}
	for i, size := range []int{32, 33, 128, 1312, 9100, maxDatagram, 64} {
		up, down := data(1, uint64(i), size), data(7, uint64(i), size)
		up[size-1], down[size-1] = 0xaa, 0xbb
		w.serverDevice.put(t, up, st.Local)
		if got, _ := w.gwDevice.get(t, soon); !bytes.Equal(got, up) {
			t.Fatalf("%d bytes up: got %d", size, len(got))
		}
		w.gwDevice.put(t, down, back)
		if got, from := w.serverDevice.get(t, soon); !bytes.Equal(got, down) || from != st.Local {
			t.Fatalf("%d bytes down: got %d from %s", size, len(got), from)
		}
	}
	// What is no datagram of WireGuard, and what comes from elsewhere, is not carried.
	w.serverDevice.put(t, []byte("hello, this is not what a WireGuard device says"), st.Local)
	newDevice(t).put(t, data(1, 98, 64), st.Local)
	w.serverDevice.put(t, data(1, 99, 64), st.Local)
	if got, _ := w.gwDevice.get(t, soon); len(got) != 64 || counterOf(got) != 99 {
		t.Errorf("got %q", got)
	}
}

// TestStreamInOrder: a burst arrives in order, and what is lost of it is lost
// for want of room only.
func TestStreamInOrder(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	st := w.up(t)
	const n = 60
	for i := range uint64(n) {
		w.serverDevice.put(t, data(1, i, 1312), st.Local)
	}
	for i := range uint64(n) {
		got, _ := w.gwDevice.get(t, soon)
		if got == nil || counterOf(got) != i {
			t.Fatalf("datagram %d: %d bytes", i, len(got))
		}
	}
}

// TestStreamEndsWithItsWish: nothing is left, and nothing is carried.
func TestStreamEndsWithItsWish(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	st := w.up(t)
	w.carrier.Set(nil)
	for end := time.Now().Add(soon); len(w.carrier.Status())+len(w.acceptor.Status()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %+v, %+v", w.carrier.Status(), w.acceptor.Status())
		}
	}
	_, _ = w.serverDevice.WriteToUDPAddrPort(data(1, 1, 64), st.Local)
	if got, _ := w.gwDevice.get(t, 200*time.Millisecond); got != nil {
		t.Errorf("still carried: %d bytes", len(got))
	}
}

// TestStreamRefusesAnotherGateway: who answers must be the wished peer.
func TestStreamRefusesAnotherGateway(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	fake := newName(t, 4)
	conf := tlsFor(w.server, fake)
	w.carrier.opts.TLS = func(tunnel.Key) (*tls.Config, error) { return conf, nil }
	w.carrier.Set([]tunnel.Stream{w.wish})
	st := w.until(t, "refused", func(s tunnel.StreamStatus) bool { return strings.Contains(s.Err, errWho.Error()) })
	if st.Up || len(w.acceptor.Status()) != 0 {
		t.Errorf("%+v stands", st)
	}
}

// TestStreamComesBack: a connection that ends is dialled again, from the same
// address towards the device.
func TestStreamComesBack(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	st := w.up(t)
	w.mu.Lock()
	w.last.Close()
	w.mu.Unlock()
	w.until(t, "down", func(s tunnel.StreamStatus) bool { return !s.Up })
	again := w.until(t, "up again", func(s tunnel.StreamStatus) bool { return s.Up })
	if again.Local != st.Local {
		t.Errorf("the device must move from %s to %s", st.Local, again.Local)
	}
	w.serverDevice.put(t, data(1, 5, 64), st.Local)
	if got, _ := w.gwDevice.get(t, soon); got == nil {
		t.Error("nothing is carried")
	}
}

// gate is a connection that can be stopped without a word.
type gate struct {
	net.Conn
	mu     sync.Mutex
	opened chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	<-opened
	return g.Conn.Write(b)
}

func (g *gate) NetConn() net.Conn { return g.Conn }

// TestStreamGivesUpOnSilence: when nothing comes any more, both ends let go
// within seconds, and the device is never blocked.
func TestStreamGivesUpOnSilence(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	open := make(chan struct{})
	close(open)
	var g *gate
	w.onDial = func(c net.Conn) net.Conn {
		if g != nil {
			return c
		}
		g = &gate{Conn: c, opened: open}
		return g
	}
	st := w.up(t)
	shut := make(chan struct{})
	g.mu.Lock()
	g.opened = shut
	g.mu.Unlock()
	began := time.Now()
	for i := range uint64(2000) { // never blocked
		w.serverDevice.put(t, data(1, i, 1312), st.Local)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("sending took %s", d)
	}
	time.AfterFunc(silentAfter+time.Second, func() { close(shut) })
	for end := time.Now().Add(silentAfter + 2*time.Second); len(w.acceptor.Status()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the gateway keeps a silent stream")
		}
	}
	w.until(t, "up again", func(s tunnel.StreamStatus) bool { return s.Up && s.Since.After(st.Since) })
	if n := w.carrier.Counters()["dropped"]; n == 0 {
		t.Error("nobody counted what was dropped")
	}
}

// TestAcceptorBounds: one connection a node, a bounded number in all, and none
// for those that are put out.
func TestAcceptorBounds(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	a := NewAcceptor(AcceptorOptions{Device: d.addr, Most: 2})
	serve := func(key byte) (net.Conn, chan error) {
		mine, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- a.Serve(t.Context(), theirs, tunnel.Key{key}, d.addr) }()
		t.Cleanup(func() { mine.Close() })
		return mine, ended
	}
	count := func(n int) {
		t.Helper()
		for end := time.Now().Add(soon); len(a.Status()) != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d streams, want %d", len(a.Status()), n)
			}
		}
	}
	_, first := serve(1)
	count(1)
	if _, ended := serve(1); !errors.Is(<-ended, ErrTooSoon) {
		t.Error("a second one of the same node within a second")
	}
	serve(2)
	count(2)
	if _, ended := serve(3); !errors.Is(<-ended, ErrFull) {
		t.Error("a third one where two may be")
	}
	time.Sleep(leastLife)
	serve(1)
	<-first // replaced
	count(2)
	a.Cut(func(k tunnel.Key) bool { return k == tunnel.Key{1} })
	count(1)
	c := a.Counters()
	if c["replaced"] != 1 || c["cut"] != 1 || c["refused"] != 2 || c["connects"] != 3 {
		t.Errorf("counted %v", c)
	}
}

// TestAcceptorCutsJunk: what is no frame, or no datagram of WireGuard, ends the
// connection, and nothing of it reaches the device.
func TestAcceptorCutsJunk(t *testing.T) {
	t.Parallel()
	for name, junk := range map[string][]byte{
		"text":       []byte("GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"),
		"too long":   append([]byte{0xff, 0xff}, make([]byte, 100)...),
		"too short":  {0, 31, 4, 0, 0, 0},
		"no message": append([]byte{0, 64}, bytes.Repeat([]byte{9}, 64)...),
		"reserved":   append([]byte{0, 64, 4, 1}, make([]byte, 62)...),
		"wrong size": append([]byte{0, 64, 1}, make([]byte, 63)...),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			a := NewAcceptor(AcceptorOptions{Device: d.addr})
			mine, theirs := net.Pipe()
			defer mine.Close()
			ended := make(chan error, 1)
			go func() { ended <- a.Serve(t.Context(), theirs, tunnel.Key{1}, d.addr) }()
			go func() { _, _ = mine.Write(junk) }()
			if err := <-ended; !errors.Is(err, errJunk) {
				t.Errorf("ended with %v", err)
			}
			if got, _ := d.get(t, 50*time.Millisecond); got != nil {
				t.Errorf("the device got %q", got)
			}
		})
	}
}

// TestAcceptorSlowReader: a node that does not read holds neither the device nor
// memory, and loses its stream.
func TestAcceptorSlowReader(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	a := NewAcceptor(AcceptorOptions{Device: d.addr})
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(t.Context(), conn, tunnel.Key{1}, d.addr) }()
	go func() { // signs of life, but it never reads
		for range 20 {
			if _, err := client.Write([]byte{0, 0}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
	for len(a.Status()) == 0 {
		time.Sleep(time.Millisecond)
	}
	to := a.Status()[0].Local
	for began := time.Now(); time.Since(began) < 2*silentAfter; {
		for i := range uint64(100) {
			_, _ = d.WriteToUDPAddrPort(data(1, i, 1312), to)
		}
		select {
		case <-ended:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the stream of a node that does not read stands")
}

// TestStreamNoAllocations: carrying costs no memory for each datagram.
func TestStreamNoAllocations(t *testing.T) {
	w := newTown(t)
	st := w.up(t)
	buf := make([]byte, 65536)
	d := data(1, 1, 1312)
	allocs := testing.AllocsPerRun(2000, func() {
		w.serverDevice.put(t, d, st.Local)
		if _, _, err := w.gwDevice.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1 { // crypto/tls makes a little for each record
		t.Errorf("%.1f allocations for each datagram", allocs)
	}
}
