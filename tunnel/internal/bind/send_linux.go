package bind

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// maxSegments is how many datagrams a burst may hold on every kernel
	// (UDP_MAX_SEGMENTS).
	maxSegments = 64
	// What one datagram, and so one burst, may hold (RFC 768): 64 kB without
	// the headers that count.
	maxBurst4 = 1<<16 - 1 - 20 - 8
	maxBurst6 = 1<<16 - 1 - 8
)

func pointer[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// batch is what one Send hands to the kernel: the packets stay where they are.
type batch struct {
	name     address
	iovs     []unix.Iovec
	msgs     []message
	controls [][controlRoom]byte

	todo  []message
	err   error
	write func(fd uintptr) bool                         // made once, so that a call allocates nothing
	move  func(fd uintptr, msgs []message) (int, error) // sendmmsg, but for tests
}

func newBatch() *batch {
	b := &batch{
		iovs:     make([]unix.Iovec, conn.IdealBatchSize),
		msgs:     make([]message, conn.IdealBatchSize),
		controls: make([][controlRoom]byte, conn.IdealBatchSize),
	}
	b.move = func(fd uintptr, msgs []message) (int, error) { return mmsg(unix.SYS_SENDMMSG, fd, msgs) }
	b.write = func(fd uintptr) bool {
		for len(b.todo) > 0 {
			n, err := b.move(fd, b.todo)
			if err != nil {
				b.err = err
				return !errors.Is(err, unix.EAGAIN)
			}
			b.todo = b.todo[n:]
		}
		b.err = nil
		return true
	}
	return b
}

// Send writes datagrams to one peer, waiting while the socket is full. What is
// too large for the link is lost without an error. Other errors mean that some
// datagrams did not leave.
func (b *Bind) Send(bufs [][]byte, to conn.Endpoint) error {
	e, ok := to.(*Endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	s := b.sockets[family(e.dst.Addr())].Load()
	if s == nil {
		if b.sockets[1-family(e.dst.Addr())].Load() == nil {
			return net.ErrClosed
		}
		return unix.EAFNOSUPPORT
	}
	if r := s.routes; r != nil && e.src.addr.IsValid() {
		r.check(e)
	}
	q := b.batches.Get().(*batch)
	defer b.batches.Put(q)
	for len(bufs) > 0 {
		k := min(len(bufs), len(q.msgs))
		if err := q.send(s, e, bufs[:k]); err != nil {
			return err
		}
		bufs = bufs[k:]
	}
	return nil
}

// send tries again without what the kernel refused: a source that is gone,
// bursts that the network card cannot cut, a datagram that is too large.
func (q *batch) send(s *socket, e *Endpoint, bufs [][]byte) error {
	defer func() { clear(q.iovs[:len(bufs)]) }()
	bursts := s.bursts()
	for {
		src := e.source()
		n := q.load(s, e, src, bufs, bursts)
		q.todo = q.msgs[:n]
		if err := s.raw.Write(q.write); err != nil {
			return net.ErrClosed
		}
		if q.err == nil {
			return nil
		}
		failed := q.todo[0]
		bufs = bufs[q.index(&failed):]
		switch {
		case errors.Is(q.err, unix.EIO) && bursts:
			s.refuse.Store(true)
			bursts = false
		case (errors.Is(q.err, unix.EMSGSIZE) || errors.Is(q.err, unix.EINVAL)) && failed.hdr.Iovlen > 1:
			bursts = false // to find those that are too large, one by one
		case errors.Is(q.err, unix.EMSGSIZE):
			if bufs = bufs[1:]; len(bufs) == 0 {
				return nil
			}
		case src.addr.IsValid() && sourceLost(q.err):
			e.ClearSrc()
		default:
			return q.err
		}
	}
}

// sourceLost tells errors that may come from a source address or interface
// that this host no longer has.
func sourceLost(err error) bool {
	for _, e := range []error{unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENODEV, unix.ENETDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// index is the place of a message's first packet among those loaded.
func (q *batch) index(m *message) int {
	return int((uintptr(unsafe.Pointer(m.hdr.Iov)) - uintptr(unsafe.Pointer(&q.iovs[0]))) / unsafe.Sizeof(q.iovs[0]))
}

// load lays out packets as messages and returns their number. Packets of one
// size that follow each other, the last of which may be shorter, become one.
func (q *batch) load(s *socket, e *Endpoint, src source, bufs [][]byte, bursts bool) (n int) {
	namelen := q.name.set(e)
	limit := maxBurst4
	if s.is6 {
		limit = maxBurst6
	}
	for i := 0; i < len(bufs); n++ {
		size := len(bufs[i])
		k := 1
		if bursts {
			k = burst(bufs[i:], limit)
		}
		for j, b := range bufs[i : i+k] {
			q.iovs[i+j].Base = unsafe.SliceData(b)
			q.iovs[i+j].SetLen(len(b))
		}
		control := addSource(q.controls[n][:0], src)
		if k > 1 {
			control = addSegment(control, size)
		}
		h := &q.msgs[n].hdr
		*h = unix.Msghdr{Name: (*byte)(pointer(&q.name)), Namelen: namelen, Iov: &q.iovs[i]}
		h.SetIovlen(k)
		if len(control) > 0 {
			h.Control = &control[0]
			h.SetControllen(len(control))
		}
		i += k
	}
	return n
}

// burst is how many of bufs, from the first on, can leave as one; at least one.
func burst(bufs [][]byte, limit int) (k int) {
	size, total := len(bufs[0]), 0
	for _, b := range bufs {
		if k == maxSegments || len(b) > size || total+len(b) > limit || len(b) == 0 {
			break
		}
		k, total = k+1, total+len(b)
		if len(b) < size {
			break
		}
	}
	return max(k, 1)
}
