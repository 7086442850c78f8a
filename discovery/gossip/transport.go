package gossip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	streamsPerPeer = 4                // at once, from one address
	streamTime     = 10 * time.Second // for a whole stream
	dialTime       = 3 * time.Second  // longer means unreachable: the overlay has no slow handshake
	largestPacket  = 16 << 10         // more than any MTU in use
)

// transport carries memberlist over the overlay. A packet's or stream's source
// is an overlay address, which WireGuard binds to one peer.
type transport struct {
	g       *Gossip
	sieve   *sieve
	conn    net.PacketConn
	ln      net.Listener
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // of the transport's life: dials end with it
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	open   map[net.Conn]struct{}
	peers  map[netip.Addr]int
	askers map[netip.Addr]*bucket
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens the ports and starts reading; Shutdown ends and joins it.
func listen(g *Gossip) (*transport, error) {
	at := netip.AddrPortFrom(g.opt.Self.Addr, g.opt.Port)
	conn, err := g.opt.Network.ListenPacket("udp", at)
	if err != nil {
		return nil, fmt.Errorf("listen for gossip packets on %s: %w", at, err)
	}
	ln, err := g.opt.Network.Listen("tcp", at)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for gossip streams on %s: %w", at, err)
	}
	t := &transport{
		g:       g,
		sieve:   g.sieve,
		conn:    conn,
		ln:      ln,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		open:    map[net.Conn]struct{}{},
		peers:   map[netip.Addr]int{},
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
	return t, nil
}

// FinalAdvertiseAddr is the certified overlay address.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.g.opt.Self.Addr.AsSlice(), int(t.g.opt.Port), nil
}

// PacketCh gives memberlist the messages that passed, one in each packet.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh gives memberlist the streams that passed, already read.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends one datagram within the mesh and the MTU.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	at, err := t.destination(to)
	if err != nil {
		return time.Time{}, err
	}
	t.g.watch(b)
	now := time.Now()
	if err := t.send(b, at); err != nil {
		return time.Time{}, err
	}
	return now, nil
}

// send sends one datagram to a node.
func (t *transport) send(b []byte, at netip.AddrPort) error {
	if len(b) > t.g.opt.MTU-28 { // IPv4 and UDP headers, RFC 791 and RFC 768
		t.g.count.add(causeOversize, 1)
		return fmt.Errorf("send gossip to %s: %d bytes do not fit the MTU", at, len(b))
	}
	if _, err := t.conn.WriteTo(b, net.UDPAddrFromAddrPort(at)); err != nil {
		return fmt.Errorf("send gossip to %s: %w", at, err)
	}
	t.g.count.add(countPacketsOut, 1)
	t.g.count.add(countBytesOut, len(b))
	return nil
}

// destination refuses addresses that no node of the mesh can have.
func (t *transport) destination(to memberlist.Address) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(to.Addr)
	if err != nil || at.Port() != t.g.opt.Port || !t.g.opt.Mesh.Contains(at.Addr()) {
		t.g.count.add(causeBadDestination, 1)
		return at, fmt.Errorf("send gossip to %q: not in the mesh", to.Addr)
	}
	return at, nil
}

func (t *transport) readPackets() {
	buf := make([]byte, largestPacket)
	for {
		n, src, err := t.conn.ReadFrom(buf)
		now := time.Now()
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		t.g.count.add(countPacketsIn, 1)
		t.g.count.add(countBytesIn, n)
		from := addrPortOf(src)
		why := t.stranger(from.Addr())
		if why == "" && from.Port() != t.g.opt.Port {
			why = causeBadSource
		}
		if why != "" {
			t.g.count.add(why, 1)
			continue
		}
		t.deliver(t.sieve.packet(buf[:n], from.Addr()), from, now)
	}
}

// stranger says why nobody at an address is heard; "" if a verified node has it.
// A stranger inside the mesh is a sign that others know more than this node,
// unless it is one that was forgotten for good reason.
func (t *transport) stranger(a netip.Addr) cause {
	if _, ok := t.sieve.owner(a); ok {
		return ""
	}
	if t.sieve.wasRefused(a) {
		return causeRefused
	}
	if t.g.opt.Mesh.Contains(a) {
		t.g.stranger.Store(true)
	}
	return causeBadSource
}

// pause reports whether reading may go on after an error: it may while the
// transport lives, a moment later.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

// deliver hands single messages, which the caller no longer uses, to memberlist.
func (t *transport) deliver(messages [][]byte, from netip.AddrPort, at time.Time) {
	for _, m := range messages {
		p := &memberlist.Packet{Buf: m, From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) acceptStreams() {
	for {
		conn, err := t.ln.Accept()
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		t.g.count.add(countStreamsIn, 1)
		from := addrPortOf(conn.RemoteAddr()).Addr()
		if why := t.enter(conn, from); why != "" {
			t.g.count.add(why, 1)
			conn.Close()
			continue
		}
		t.wg.Go(func() { t.serve(conn, from) })
	}
}

// enter counts an accepted stream in; leave counts it out.
func (t *transport) enter(conn net.Conn, from netip.Addr) cause {
	if why := t.stranger(from); why != "" {
		return why
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil || t.peers[from] >= streamsPerPeer {
		return causeStreamLimit
	}
	t.peers[from]++
	t.open[conn] = struct{}{}
	return ""
}

func (t *transport) leave(conn net.Conn, from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[conn]; !ok {
		return
	}
	delete(t.open, conn)
	if t.peers[from]--; t.peers[from] <= 0 {
		delete(t.peers, from)
	}
}

// serve reads an accepted stream and answers it, or lets memberlist do so.
func (t *transport) serve(raw net.Conn, from netip.Addr) {
	conn := &stream{Conn: raw, close: func() { t.leave(raw, from) }}
	raw.SetDeadline(time.Now().Add(streamTime))
	r := bounded(raw)
	kind, err := r.ReadByte()
	if err != nil {
		conn.end()
		return
	}
	if kind == streamMark {
		t.answer(conn, r, from)
		conn.end()
		return
	}
	b, why := t.sieve.stream(kind, r, from)
	if why != "" {
		t.g.count.add(why, 1)
		conn.end()
		return
	}
	conn.read, conn.told = b, t.told()
	select {
	case t.streams <- conn:
	case <-t.ctx.Done():
		conn.end()
	}
}

// Shutdown closes everything and waits for what was started here. Streams that
// memberlist still holds end with an error there.
func (t *transport) Shutdown() error {
	t.stop()
	err := errors.Join(t.conn.Close(), t.ln.Close())
	t.mu.Lock()
	open := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	for _, conn := range open {
		conn.Close()
	}
	t.wg.Wait()
	return err
}

// addrPortOf reads an address as networks report it; the zero value if it
// cannot be read.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	case nil:
		return ap
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
