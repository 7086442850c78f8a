package bind

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"drawbridge/tunnel/internal/queue"
)

var _ conn.Bind = (*Bind)(nil)

// Bind is a pair of UDP sockets on one port. It may be opened and closed any
// number of times; Send may be called from several goroutines.
type Bind struct {
	mu     sync.Mutex // guards Open and Close against each other
	routes *routes    // nil while closed, or where netlink is not to be had

	sockets [2]atomic.Pointer[socket] // IPv4 and IPv6; nil while closed, or unsupported
	batches sync.Pool                 // of *batch
	ears    ears
}

// ears is who wants to know what comes; both may be nil.
type ears struct {
	transit *queue.Transit
	shaken  func() // a handshake message came
}

// New makes a Bind that is closed. It tells t when datagrams came; with a nil
// t nobody keeps the queue in front of it short, so the socket buffers stay at
// the system's default. shaken, unless nil, is called for each message of a
// handshake, which nobody has verified yet; it must not block.
func New(t *queue.Transit, shaken func()) *Bind {
	return &Bind{ears: ears{t, shaken}, batches: sync.Pool{New: func() any { return newBatch() }}}
}

// tries bounds the search for a port that is free in both families.
const tries = 100

// Open listens on a UDP port, 0 for one that the system chooses. A system
// without one of the families has the other only.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sockets[0].Load() != nil || b.sockets[1].Load() != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	s4, s6, err := b.listen(port)
	for n := 1; port == 0 && errors.Is(err, unix.EADDRINUSE) && n < tries; n++ {
		s4, s6, err = b.listen(port)
	}
	if err != nil {
		return nil, 0, err
	}
	// Without it, a source is doubted only when a datagram is refused or
	// WireGuard's handshake fails.
	b.routes, _ = watchRoutes()
	var fns []conn.ReceiveFunc
	for i, s := range []*socket{s4, s6} {
		if s == nil {
			continue
		}
		s.routes = b.routes
		b.sockets[i].Store(s)
		fns = append(fns, newReceiver(s).receive)
		port = s.port
	}
	return fns, port, nil
}

func (b *Bind) listen(port uint16) (s4, s6 *socket, err error) {
	s4, err = listen(unix.AF_INET, port, b.ears)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil, err
	}
	if s4 != nil {
		port = s4.port
	}
	s6, err = listen(unix.AF_INET6, port, b.ears)
	if err != nil && (s4 == nil || !errors.Is(err, unix.EAFNOSUPPORT)) {
		if s4 != nil {
			err = errors.Join(err, s4.close())
		}
		return nil, nil, err
	}
	return s4, s6, nil
}

// Close ends both sockets; the functions that Open returned end with
// [net.ErrClosed]. Closing a closed Bind is fine.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for i := range b.sockets {
		if s := b.sockets[i].Swap(nil); s != nil {
			errs = append(errs, s.close())
		}
	}
	if b.routes != nil {
		errs = append(errs, b.routes.close())
		b.routes = nil
	}
	return errors.Join(errs...)
}

// Offload says how bursts go: "on" when one system call sends and receives
// many datagrams, or why not; "" while closed.
func (b *Bind) Offload() string {
	said := ""
	for i := range b.sockets {
		s := b.sockets[i].Load()
		if s == nil {
			continue
		}
		if said = s.offload(); said != offloadOn {
			return said
		}
	}
	return said
}

// SetMark is refused unless it is 0: this house routes by table, not by mark.
func (b *Bind) SetMark(mark uint32) error {
	if mark != 0 {
		return errors.New("marks are not supported")
	}
	return nil
}

// ParseEndpoint reads ADDR:PORT.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) { return parseEndpoint(s) }

// BatchSize is how many datagrams one call sends or receives at most.
func (b *Bind) BatchSize() int { return conn.IdealBatchSize }

// family is the index of an address's socket.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
