package stream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/tunnel"
)

// CarrierOptions of a carrier. Device and TLS are needed.
type CarrierOptions struct {
	Device netip.AddrPort // where the own device listens, on loopback
	// TLS is how to reach the peer with the key, and only that one: who answers
	// must be checked by it (tls.Config.VerifyConnection).
	TLS func(tunnel.Key) (*tls.Config, error)
	// Dial makes the TCP connection; nil: from any address of this host.
	Dial   func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Logger *slog.Logger // nil discards
}

// Carrier is the side that dials. It is a hand: it gets its whole wish by Set
// and carries it out while Run runs. Methods may be called from several
// goroutines.
type Carrier struct {
	opts    CarrierOptions
	log     *slog.Logger
	c       counters
	wished  chan struct{} // of capacity one
	changed chan struct{} // of capacity one
	opened  chan struct{} // of capacity one: UDP works again with one peer

	mu    sync.Mutex // guards wish and lines
	wish  []tunnel.Stream
	lines map[tunnel.Key]*line
}

// NewCarrier makes a carrier.
func NewCarrier(o CarrierOptions) *Carrier {
	c := &Carrier{
		opts: o, log: o.Logger, wished: make(chan struct{}, 1), changed: make(chan struct{}, 1), opened: make(chan struct{}, 1),
		lines: map[tunnel.Key]*line{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.opts.Dial == nil {
		c.opts.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		}
	}
	return c
}

// String names the task.
func (c *Carrier) String() string { return "streams" }

// Set takes the whole wish, sorted by key or not. It does not block. A stream
// that is wished for no more ends at once.
func (c *Carrier) Set(wish []tunnel.Stream) {
	c.mu.Lock()
	c.wish = slices.Clone(wish)
	c.mu.Unlock()
	poke(c.wished)
}

// Changed delivers after one or several changes of a status, but for the mere
// passing of time. For a single reader.
func (c *Carrier) Changed() <-chan struct{} { return c.changed }

// poke sets a flag for a reader.
func poke(flag chan struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}

// Run carries out the wish until ctx ends; then all streams end, and it returns
// nil.
func (c *Carrier) Run(ctx context.Context) error {
	var lines sync.WaitGroup
	defer lines.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		c.apply(ctx, &lines)
		select {
		case <-ctx.Done():
			return nil
		case <-c.wished:
		case <-c.opened:
			c.hasten()
		}
	}
}

// hasten has UDP tried with all peers now: it is most often one firewall.
func (c *Carrier) hasten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lines {
		l.mu.Lock()
		l.way.hasten(time.Now())
		l.mu.Unlock()
	}
}

// apply starts and ends lines.
func (c *Carrier) apply(ctx context.Context, running *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer poke(c.changed)
	want := map[tunnel.Key]tunnel.Stream{}
	for _, s := range c.wish {
		want[s.Key] = s
	}
	for k, l := range c.lines {
		if s, ok := want[k]; !ok || s.UDP != l.wish.UDP {
			l.stop()
			delete(c.lines, k)
		}
	}
	for k, s := range want {
		if l := c.lines[k]; l != nil {
			l.redirect(s.To)
			continue
		}
		l, err := newLine(ctx, c, s)
		if err != nil {
			// Out of descriptors, most likely: the next wish tries again.
			c.log.Error("stream not begun", "peer", k, "endpoint", s.To, "err", err)
			continue
		}
		c.lines[k] = l
		running.Go(l.run)
	}
}

// Status is what became of every stream that is wished for, sorted by key.
func (c *Carrier) Status() []tunnel.StreamStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]tunnel.StreamStatus, 0, len(c.lines))
	for _, k := range slices.SortedFunc(maps.Keys(c.lines), tunnel.Key.Compare) {
		out = append(out, c.lines[k].report())
	}
	return out
}

// Counters are what was counted since the start, by name.
func (c *Carrier) Counters() map[string]uint64 { return c.c.all() }
