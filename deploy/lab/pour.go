package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sinkPort is where a track swallows datagrams.
const sinkPort = appPort + 1

// Sunk is what a sink has swallowed so far.
type Sunk struct {
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
}

// sink swallows datagrams and counts them.
type sink struct{ packets, bytes atomic.Int64 }

func (s *sink) drain(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, _, err := readFrom(c, b)
		if err != nil {
			return
		}
		s.packets.Add(1)
		s.bytes.Add(int64(n))
	}
}

// readFrom reads without an allocation where the socket allows it.
func readFrom(c net.PacketConn, b []byte) (int, netip.AddrPort, error) {
	if u, ok := c.(*net.UDPConn); ok {
		return u.ReadFromUDPAddrPort(b)
	}
	n, _, err := c.ReadFrom(b)
	return n, netip.AddrPort{}, err
}

func (s *sink) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(Sunk{s.packets.Load(), s.bytes.Load()})
}

// ServeTrack is the far end of measurements: /bulk streams, datagrams to the
// next port are swallowed and counted at /sunk.
func ServeTrack(ctx context.Context, listen netip.AddrPort) error {
	// Cubic is the kernel's default, but hosts may be told otherwise, and
	// figures compare only with the same.
	l, err := (&net.ListenConfig{Control: congestion("cubic")}).Listen(ctx, "tcp4", listen.String())
	if err != nil {
		return fmt.Errorf("serve track: %w", err)
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(listen.Addr(), listen.Port()+1)))
	if err != nil {
		return errors.Join(fmt.Errorf("serve track: %w", err), l.Close())
	}
	if err := forceReadBuffer(c, 16<<20); err != nil { // the sink must not be what loses packets
		return errors.Join(err, l.Close(), c.Close())
	}
	return serveTrack(ctx, l, c)
}

func serveTrack(ctx context.Context, l net.Listener, c net.PacketConn) error {
	s := &sink{}
	mux := http.NewServeMux()
	mux.HandleFunc("/bulk", serveBulk)
	mux.Handle("/sunk", s)
	h := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var tasks sync.WaitGroup
	tasks.Go(func() { s.drain(c) })
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), h.Close() })
	err := h.Serve(l)
	stop()
	_ = c.Close()
	tasks.Wait()
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return err
}

// Poured is what a pour sent.
type Poured struct {
	Packets int64         `json:"packets"`
	Took    time.Duration `json:"took"` // ns
}

// Pour sends datagrams of size bytes to addr as fast as the system takes them,
// or, with a burst, so many at once and again every so often, and prints
// [Poured] as JSON.
func Pour(ctx context.Context, addr netip.AddrPort, size int, d time.Duration, burst int, every time.Duration, out io.Writer) error {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return fmt.Errorf("pour: %w", err)
	}
	defer func() { _ = c.Close() }()
	atOnce := 64 // before the clock is asked again
	if burst > 0 {
		atOnce = burst
	}
	p := Poured{}
	b := make([]byte, size)
	began := time.Now()
	next := began
	for time.Since(began) < d && ctx.Err() == nil {
		for range atOnce {
			// A full queue is a lost packet, no error of the pour's.
			if _, err := c.Write(b); err == nil || errors.Is(err, syscall.ENOBUFS) {
				p.Packets++
			}
		}
		if burst > 0 {
			next = next.Add(every)
			if err := sleep(ctx, time.Until(next)); err != nil {
				return err
			}
		}
	}
	p.Took = time.Since(began)
	return json.NewEncoder(out).Encode(p)
}

// Echoes are the round trips of a ping.
type Echoes struct {
	RTT  []time.Duration `json:"rtt"` // ns, of those that came back, in order
	Lost int             `json:"lost"`
}

// Ping sends ICMP echo requests every so often for d, and prints [Echoes] as
// JSON. It needs the right to open a raw socket.
func Ping(ctx context.Context, addr netip.Addr, every, d time.Duration, out io.Writer) error {
	c, err := (&net.ListenConfig{}).ListenPacket(ctx, "ip4:icmp", "0.0.0.0")
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer func() { _ = c.Close() }()
	const room = 10_000
	n := min(int(d/every), room)
	var sent [room]atomic.Int64 // when, in ns since began
	began := time.Now()
	var e Echoes
	var reader sync.WaitGroup
	reader.Go(func() {
		b := make([]byte, 1500)
		for {
			k, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			seq, ok := echoReply(b[:k])
			if !ok || seq >= n {
				continue
			}
			if at := sent[seq].Swap(0); at != 0 {
				e.RTT = append(e.RTT, time.Since(began)-time.Duration(at))
			}
		}
	})
	to := net.IPAddr{IP: addr.AsSlice()}
	for i := range n {
		if err := sleep(ctx, time.Until(began.Add(time.Duration(i)*every))); err != nil {
			break
		}
		sent[i].Store(int64(time.Since(began)))
		_, _ = c.WriteTo(echoRequest(i), &to)
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	reader.Wait()
	e.Lost = n - len(e.RTT)
	return json.NewEncoder(out).Encode(e)
}

// echoRequest is an ICMP echo request (RFC 792) with 56 bytes of data.
func echoRequest(seq int) []byte {
	b := make([]byte, 64)
	b[0] = 8
	binary.BigEndian.PutUint16(b[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(b[6:], uint16(seq))
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}

// echoReply is the number of an answer to us.
func echoReply(b []byte) (seq int, ok bool) {
	if len(b) < 8 || b[0] != 0 || binary.BigEndian.Uint16(b[4:]) != uint16(os.Getpid()) {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(b[6:])), true
}

// Fetch prints what a URL answers.
func Fetch(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer res.Body.Close()
	_, err = io.Copy(out, res.Body)
	return err
}
