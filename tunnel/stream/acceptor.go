package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/tunnel"
)

// AcceptorOptions of an acceptor. Device is needed.
type AcceptorOptions struct {
	Device netip.AddrPort // where the own device listens, on loopback
	Most   int            // connections at once; 0: 1024
	Logger *slog.Logger   // nil discards
}

// Acceptor is the gateway's side: it joins connections of verified nodes to the
// own device. Methods may be called from several goroutines.
type Acceptor struct {
	opts AcceptorOptions
	log  *slog.Logger
	c    counters

	changed chan struct{} // of capacity one

	mu    sync.Mutex // guards calls
	calls map[tunnel.Key]*call
}

// call is one connection.
type call struct {
	*link
	leg    *leg
	status tunnel.StreamStatus
}

// Refusals of [Acceptor.Serve].
var (
	// ErrFull: there are as many connections as there may be.
	ErrFull = errors.New("no room for another stream")
	// ErrTooSoon: the same node opened another one less than a second ago.
	ErrTooSoon = errors.New("another stream of the same node has just begun")
)

// leastLife is how old a connection is before another of the same node takes
// its place: two hosts with one identity must not make the gateway spin.
const leastLife = time.Second

// NewAcceptor makes an acceptor.
func NewAcceptor(o AcceptorOptions) *Acceptor {
	a := &Acceptor{opts: o, log: o.Logger, changed: make(chan struct{}, 1), calls: map[tunnel.Key]*call{}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.opts.Most == 0 {
		a.opts.Most = 1024
	}
	return a
}

// Serve carries datagrams between conn, whose other end is proven to be the
// node with key, and the device, until one of them ends or ctx does; then it
// closes conn and says why. A connection of a node that has one already replaces
// that.
func (a *Acceptor) Serve(ctx context.Context, conn net.Conn, key tunnel.Key, from netip.AddrPort) error {
	defer conn.Close()
	l, err := openLoopback(ctx, a.opts.Device)
	if err != nil {
		return err
	}
	defer l.close()
	c := &call{link: &link{Conn: conn, c: &a.c}, leg: l}
	c.status = tunnel.StreamStatus{Key: key, To: from, Local: l.addr(), Up: true, Since: time.Now()}
	if err := a.enter(c); err != nil {
		a.c.refused.Add(1)
		return err
	}
	defer a.leave(c)
	a.c.connects.Add(1)
	a.log.Info("stream begins", "peer", key, "endpoint", from)
	err = a.carry(ctx, c)
	a.log.Info("stream ends", "peer", key, "endpoint", from, "err", err)
	return err
}

func (a *Acceptor) enter(c *call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.calls[c.status.Key]
	switch {
	case old == nil && len(a.calls) >= a.opts.Most:
		return ErrFull
	case old != nil && c.status.Since.Sub(old.status.Since) < leastLife:
		return ErrTooSoon
	case old != nil:
		a.c.replaced.Add(1)
		old.end()
	}
	a.calls[c.status.Key] = c
	poke(a.changed)
	return nil
}

// end closes both ways; whoever reads or writes returns.
func (c *call) end() {
	abort(c.Conn)
	c.leg.close()
}

func (a *Acceptor) leave(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls[c.status.Key] == c {
		delete(a.calls, c.status.Key)
		poke(a.changed)
	}
}

// carry moves datagrams both ways until either way ends.
func (a *Acceptor) carry(ctx context.Context, c *call) error {
	tune(under(c.Conn))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, c.end)()
	var ways sync.WaitGroup
	defer ways.Wait()
	ways.Go(func() { defer cancel(); c.pulse(ctx, c.leg) })
	ways.Go(func() { defer cancel(); c.send() })
	out := burst{leg: c.leg}
	err := c.read(out.add, out.flush)
	cancel()
	return fmt.Errorf("stream: %w", err)
}

// send moves what the device sends into the connection.
func (c *call) send() {
	chunk, out := make([]byte, chunkLen), newFrames()
	for {
		n, size, err := c.leg.read(chunk)
		if gone(err) {
			return
		}
		if err != nil {
			continue // the device is away for a moment
		}
		for each(chunk[:n], size, out.add); !out.full(); {
			if n, size = c.leg.more(chunk); n == 0 {
				break
			}
			each(chunk[:n], size, out.add)
		}
		if out.put(c.link) != nil {
			return
		}
	}
}

// Cut ends the streams of all nodes that may not have one any more.
func (a *Acceptor) Cut(may func(tunnel.Key) bool) {
	a.mu.Lock()
	calls := maps.Clone(a.calls)
	a.mu.Unlock()
	for k, c := range calls {
		if !may(k) {
			a.c.cut.Add(1)
			c.end()
		}
	}
}

// Changed delivers after streams began or ended. For a single reader.
func (a *Acceptor) Changed() <-chan struct{} { return a.changed }

// Status is every stream there is, sorted by key.
func (a *Acceptor) Status() []tunnel.StreamStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]tunnel.StreamStatus, 0, len(a.calls))
	for _, k := range slices.SortedFunc(maps.Keys(a.calls), tunnel.Key.Compare) {
		out = append(out, a.calls[k].status)
	}
	return out
}

// Counters are what was counted since the start, by name.
func (a *Acceptor) Counters() map[string]uint64 { return a.c.all() }
