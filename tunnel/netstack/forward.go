package netstack

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drawbridge/tunnel"
)

const (
	dialTimeout   = 5 * time.Second // to the local service
	listenAgain   = 2 * time.Second // after a port could not be opened
	defaultActive = 4096
)

// ForwarderOptions of a [Forwarder]. Network is required.
type ForwarderOptions struct {
	Network tunnel.Network
	// MaxActive bounds the connections open at once; 0 means 4096. Above it,
	// new ones are reset.
	MaxActive int
	Logger    *slog.Logger // nil discards
}

// Forwarder hands overlay TCP ports to local addresses. It is the inbound side
// of a node whose overlay address no system socket can have.
type Forwarder struct {
	opts  ForwarderOptions
	slots chan struct{}
	wake  chan struct{}
	ready chan struct{}

	mu      sync.Mutex // guards the rest
	wish    []tunnel.Forward
	sources []netip.Addr
	all     bool
	open    map[uint16]*port
}

// port is an open overlay port.
type port struct {
	l  net.Listener
	to atomic.Pointer[netip.AddrPort]
}

// NewForwarder makes a forwarder that does nothing before Run.
func NewForwarder(o ForwarderOptions) *Forwarder {
	if o.MaxActive <= 0 {
		o.MaxActive = defaultActive
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{
		opts: o, slots: make(chan struct{}, o.MaxActive), wake: make(chan struct{}, 1),
		ready: make(chan struct{}), all: true, open: map[uint16]*port{},
	}
}

// Set replaces the whole wish; an equal one changes nothing. Connections that
// are open stay so until they end by themselves, even of a port that is gone:
// a service that is drained keeps its clients.
func (f *Forwarder) Set(wish []tunnel.Forward) {
	f.mu.Lock()
	f.wish = slices.Clone(wish)
	f.mu.Unlock()
	f.nudge()
}

// Only restricts new connections to these overlay addresses, as the packet
// filter does on other backends (usually the gateways). nil allows nobody;
// before the first call everybody in the mesh may connect.
func (f *Forwarder) Only(sources []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources, f.all = slices.Clone(sources), false
}

// Open are the overlay ports listened on now, sorted.
func (f *Forwarder) Open() []uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports := make([]uint16, 0, len(f.open))
	for p := range f.open {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	return ports
}

// Ready is closed when the first wish was looked at.
func (f *Forwarder) Ready() <-chan struct{} { return f.ready }

// String names the task.
func (f *Forwarder) String() string { return "overlay port forwarder" }

func (f *Forwarder) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run keeps the wish until ctx ends, then closes ports and connections and
// waits for them. A port that cannot be opened is tried again.
func (f *Forwarder) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer f.closeAll()

	retry := time.NewTimer(0)
	defer retry.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-retry.C:
		}
		if !f.reconcile(ctx, &work) {
			retry.Reset(listenAgain)
		}
		if first {
			close(f.ready)
			first = false
		}
	}
}

// reconcile opens and closes ports and reports whether all wishes hold.
func (f *Forwarder) reconcile(ctx context.Context, work *sync.WaitGroup) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := make(map[uint16]netip.AddrPort, len(f.wish))
	for _, w := range f.wish {
		want[w.Port] = w.To
	}
	for n, p := range f.open {
		if _, ok := want[n]; !ok {
			p.l.Close()
			delete(f.open, n)
			f.opts.Logger.Info("overlay port closed", "endpoint", n)
		}
	}
	good := true
	for n, to := range want {
		if p := f.open[n]; p != nil {
			p.to.Store(&to)
			continue
		}
		l, err := f.opts.Network.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), n))
		if err != nil {
			good = false
			f.opts.Logger.Warn("overlay port not opened, trying again", "endpoint", n, "err", err)
			continue
		}
		p := &port{l: l}
		p.to.Store(&to)
		f.open[n] = p
		f.opts.Logger.Info("overlay port opened", "endpoint", n, "service", to)
		work.Go(func() { f.serve(ctx, n, p, work) })
	}
	return good
}

func (f *Forwarder) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.open {
		p.l.Close()
	}
	clear(f.open)
}

// serve accepts until the port is closed. When that was not our doing (the
// device went away and came back), the port is opened again.
func (f *Forwarder) serve(ctx context.Context, n uint16, p *port, work *sync.WaitGroup) {
	for {
		c, err := p.l.Accept()
		if err != nil {
			f.mu.Lock()
			if f.open[n] == p {
				delete(f.open, n)
				defer f.nudge()
			}
			f.mu.Unlock()
			return
		}
		select {
		case f.slots <- struct{}{}:
		default:
			f.opts.Logger.Debug("connection refused", "peer", c.RemoteAddr(), "reason", "too many connections")
			reset(c)
			continue
		}
		if !f.allowed(c.RemoteAddr()) {
			f.opts.Logger.Debug("connection refused", "peer", c.RemoteAddr(), "reason", "not a gateway")
			<-f.slots
			reset(c)
			continue
		}
		work.Go(func() {
			defer func() { <-f.slots }()
			if err := hand(ctx, c, *p.to.Load()); err != nil {
				f.opts.Logger.Debug("connection not handed over", "peer", c.RemoteAddr(), "err", err)
			}
		})
	}
}

func (f *Forwarder) allowed(a net.Addr) bool {
	from, err := netip.ParseAddrPort(a.String())
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all || err == nil && slices.Contains(f.sources, from.Addr())
}

// hand joins an overlay connection with a new one to the local service. When
// there is no such service the client is reset at once, as if the port were
// closed, so that a health check fails fast.
func hand(ctx context.Context, c net.Conn, to netip.AddrPort) error {
	d := net.Dialer{Timeout: dialTimeout}
	local, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		reset(c)
		return fmt.Errorf("dial service: %w", err)
	}
	return join(ctx, c, local)
}

func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}
