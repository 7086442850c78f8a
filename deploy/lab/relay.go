package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// natIdle is how long a silent NAT mapping lives: the least that RFC 4787
// (REQ-5) allows is 2 minutes.
const natIdle = 2 * time.Minute

// relay is the internet and the machine room's NAT of the loopback ground, in
// user space. Each gateway has a leg: a public address that the relay listens
// on, UDP and TCP, in front of the port where the agent really listens.
// Packets from another gateway keep that gateway's public address; all others
// come from the machine room, get a NAT mapping of their own, and suffer what
// its line suffers.
type relay struct {
	line *line
	legs []*leg

	mu    sync.Mutex // guards conns and done
	conns map[io.Closer]bool
	done  bool
	tasks sync.WaitGroup
}

// leg is one gateway's side of the relay.
type leg struct {
	inside netip.AddrPort // where the agent listens
	udp    *net.UDPConn
	tcp    net.Listener
	nat    map[netip.AddrPort]*net.UDPConn // by client; only the leg's reader uses it
}

// addLeg opens a public address for a gateway. All legs stand before Run.
func (r *relay) addLeg(public, inside netip.AddrPort) error {
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(public))
	if err != nil {
		return fmt.Errorf("open relay: %w", err)
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(public))
	if err != nil {
		return errors.Join(fmt.Errorf("open relay: %w", err), udp.Close())
	}
	r.legs = append(r.legs, &leg{inside: inside, udp: udp, tcp: tcp, nat: map[netip.AddrPort]*net.UDPConn{}})
	return nil
}

// Run carries packets until ctx ends.
func (r *relay) Run(ctx context.Context) error {
	for _, l := range r.legs {
		r.track(l.udp)
		r.track(l.tcp)
		r.tasks.Go(func() { r.carryPackets(l) })
		r.tasks.Go(func() { r.carryStreams(ctx, l) })
	}
	<-ctx.Done()
	r.mu.Lock()
	r.done = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.tasks.Wait()
	return nil
}

// track closes c when the relay ends; at once if it has.
func (r *relay) track(c io.Closer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		_ = c.Close()
		return false
	}
	if r.conns == nil {
		r.conns = map[io.Closer]bool{}
	}
	r.conns[c] = true
	return true
}

func (r *relay) drop(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	_ = c.Close()
}

// gatewayLeg finds the leg whose agent sends from addr.
func (r *relay) gatewayLeg(addr netip.AddrPort) *leg {
	for _, l := range r.legs {
		if l.inside == addr {
			return l
		}
	}
	return nil
}

// carryPackets takes what arrives at a leg's public address inside.
func (r *relay) carryPackets(l *leg) {
	buf := make([]byte, 65536)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP answer to what was sent before
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if g := r.gatewayLeg(from); g != nil {
			_, _ = g.udp.WriteToUDPAddrPort(buf[:n], l.inside)
			continue
		}
		if r.line.drops() {
			continue
		}
		if nat := r.mapping(l, from); nat != nil {
			_, _ = nat.Write(buf[:n])
		}
	}
}

// mapping is the NAT's socket for a client of a leg.
func (r *relay) mapping(l *leg, client netip.AddrPort) *net.UDPConn {
	if c := l.nat[client]; c != nil {
		// A mapping that expired is closed; setting a deadline tells.
		if c.SetReadDeadline(time.Now().Add(natIdle)) == nil {
			return c
		}
	}
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(l.inside))
	if err != nil || c.SetReadDeadline(time.Now().Add(natIdle)) != nil || !r.track(c) {
		return nil
	}
	l.nat[client] = c
	r.tasks.Go(func() { r.carryBack(l, c, client) })
	return c
}

// carryBack takes a gateway's answers out to one client, from the public
// address that the client knows.
func (r *relay) carryBack(l *leg, c *net.UDPConn, client netip.AddrPort) {
	defer r.drop(c)
	buf := make([]byte, 65536)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return
		}
		if err != nil || r.line.drops() {
			continue
		}
		_, _ = l.udp.WriteToUDPAddrPort(buf[:n], client)
	}
}

// carryStreams takes connections (enrolment) inside. The relay cannot tell a
// gateway's connection from a server's, so a cut line stalls both; loss is
// for packets only, since TCP would resend.
func (r *relay) carryStreams(ctx context.Context, l *leg) {
	for {
		out, err := l.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && r.track(out) {
			r.tasks.Go(func() { r.carryStream(ctx, l, out) })
		}
	}
}

func (r *relay) carryStream(ctx context.Context, l *leg, out net.Conn) {
	defer r.drop(out)
	if r.line.wait(ctx) != nil {
		return
	}
	var d net.Dialer
	in, err := d.DialContext(ctx, "tcp4", l.inside.String())
	if err != nil || !r.track(in) {
		return
	}
	defer r.drop(in)
	var back sync.WaitGroup
	back.Go(func() { r.pipe(ctx, out, in) })
	r.pipe(ctx, in, out)
	back.Wait()
}

// pipe copies one direction and closes it as the sender did.
func (r *relay) pipe(ctx context.Context, dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if r.line.wait(ctx) != nil {
				return
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
