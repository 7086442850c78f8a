package bind

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// messages is how many datagrams, or bursts of up to 64 kB, one system
	// call takes from a socket.
	messages = 16
	// largest datagram (RFC 768), and largest burst.
	largest = 1 << 16
	// maxKnown bounds the endpoints that a receiver remembers. They come from
	// datagrams that nobody has verified yet.
	maxKnown = 4096
)

// receiver takes datagrams from a socket, for one goroutine. It has its own
// buffers, because a burst is cut by copying anyway, and one that was received
// into WireGuard's buffers would touch 64 kB of each.
type receiver struct {
	sock     *socket
	msgs     [messages]message
	iovs     [messages]unix.Iovec
	names    [messages]address
	controls [messages][controlRoom]byte
	bufs     []byte // messages times largest

	known map[caller]*Endpoint

	ready    int    // messages received
	at       int    // the message to be handed out next
	rest     []byte // of the message before it
	segment  int
	came     time.Time
	endpoint *Endpoint

	read func(fd uintptr) bool // made once, so that a call allocates nothing
	err  error                 // of read
}

// caller is what tells endpoints apart.
type caller struct {
	dst   netip.AddrPort
	scope uint32
	src   source
}

func newReceiver(s *socket) *receiver {
	r := &receiver{sock: s, bufs: make([]byte, messages*largest), known: map[caller]*Endpoint{}}
	for i := range r.msgs {
		r.iovs[i].Base = &r.bufs[i*largest]
		r.iovs[i].SetLen(largest)
		h := &r.msgs[i].hdr
		h.Name = (*byte)(pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.controls[i][0]
	}
	r.read = func(fd uintptr) bool {
		r.ready, r.err = mmsg(unix.SYS_RECVMMSG, fd, r.msgs[:])
		return !errors.Is(r.err, unix.EAGAIN)
	}
	return r
}

// receive is a [conn.ReceiveFunc]. Errors of single datagrams, which a host
// reports for what it sent earlier, are skipped. First it lets others run:
// those who decrypt what it brought last wait on this very processor, with the
// datagrams in its cache.
func (r *receiver) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	runtime.Gosched()
	n := r.emit(packets, sizes, eps)
	for n == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
		n = r.emit(packets, sizes, eps)
	}
	return n, nil
}

// fill waits for datagrams.
func (r *receiver) fill() error {
	for i := range r.msgs {
		r.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet6
		r.msgs[i].hdr.SetControllen(controlRoom)
	}
	r.ready, r.at = 0, 0
	if err := r.sock.raw.Read(r.read); err != nil {
		return net.ErrClosed
	}
	if r.err == nil || slices.ContainsFunc(fromICMP, func(e error) bool { return errors.Is(r.err, e) }) {
		return nil
	}
	return r.err
}

// fromICMP are errors that tell of an ICMP message about an earlier datagram
// (ip(7)).
var fromICMP = []error{
	unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EHOSTDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EACCES,
}

// emit hands out what was received, one segment to a packet, as far as packets
// reach. The rest is for the next call.
func (r *receiver) emit(packets [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	for n < len(packets) {
		if len(r.rest) == 0 {
			if r.at == r.ready {
				break
			}
			r.open(r.at)
			r.at++
			continue
		}
		size := copy(packets[n], r.rest[:min(r.segment, len(r.rest))])
		sizes[n], eps[n] = size, r.endpoint
		r.tell(packets[n][:size])
		r.rest = r.rest[min(r.segment, len(r.rest)):]
		n++
	}
	return n
}

// tell lets those know who want to.
func (r *receiver) tell(datagram []byte) {
	if r.sock.transit != nil && !r.came.IsZero() {
		r.sock.transit.In(datagram, r.came)
	}
	// Types 1 and 2 are initiation and response
	// (https://www.wireguard.com/protocol).
	if r.sock.shaken != nil && len(datagram) > 0 && (datagram[0] == 1 || datagram[0] == 2) {
		r.sock.shaken()
	}
}

// open begins with message i.
func (r *receiver) open(i int) {
	m := &r.msgs[i]
	size := int(min(m.n, largest))
	t := readControl(r.controls[i][:min(int(m.hdr.Controllen), controlRoom)])
	if t.segment <= 0 {
		t.segment = size
	}
	r.rest, r.segment, r.came = r.bufs[i*largest:i*largest+size], t.segment, t.at
	if size == 0 {
		return
	}
	dst, scope := r.names[i].get(r.sock.is6)
	r.endpoint = r.find(caller{dst, scope, t.src})
}

// find is the endpoint of a caller, the same one as last time if its source
// still holds.
func (r *receiver) find(c caller) *Endpoint {
	if e := r.known[c]; e != nil && !e.stale.Load() {
		return e
	}
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	e := &Endpoint{dst: c.dst, scope: c.scope, src: c.src}
	if r.sock.routes != nil {
		e.checked.Store(r.sock.routes.age.Load()) // it came this way just now
	}
	r.known[c] = e
	return e
}
