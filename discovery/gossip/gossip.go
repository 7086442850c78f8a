package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"drawbridge/discovery"
)

// leaveTime bounds the farewell.
const leaveTime = time.Second

// Gossip is this node's part in the mesh. Its methods may be called from
// several goroutines, before, during and after Run.
type Gossip struct {
	opt   Options
	log   *slog.Logger
	tag   [4]byte
	book  *book
	sieve *sieve
	needs *needs
	pen   pen

	notices notices
	fetches fetches
	count   counters
	queue   *memberlist.TransmitLimitedQueue

	ran      atomic.Bool
	stranger atomic.Bool // somebody unknown spoke since the last round of knocks

	ready   chan struct{}
	changed chan struct{} // wake-ups, each of capacity one
	metaDue chan struct{}
	resign  chan struct{}
	told    chan struct{}
	shouted chan struct{}

	mu   sync.Mutex // guards the fields below
	tell []item     // introductions that gateways are to be told at once
	live *transport // nil before and after Run
	twin bucket     // of warnings
}

// New checks the options and own chain; it starts nothing.
func New(o Options) (*Gossip, error) {
	o, err := o.defaults()
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		opt:     o,
		log:     o.Logger,
		tag:     meshTag(o.MeshName),
		needs:   newNeeds(),
		ready:   make(chan struct{}),
		changed: make(chan struct{}, 1),
		metaDue: make(chan struct{}, 1),
		resign:  make(chan struct{}, 1),
		told:    make(chan struct{}, 1),
		shouted: make(chan struct{}, 1),
	}
	g.notices.heard = make(chan heard, maxWaiting)
	g.fetches.wake = make(chan struct{}, 1)
	g.book = &book{
		mesh:    o.MeshName,
		prefix:  o.Mesh,
		self:    o.Self.ID,
		verify:  o.Verify,
		prefer:  o.Prefer,
		entries: map[discovery.NodeID]*entry{},
		owners:  map[netip.Addr]discovery.NodeID{},
		leaves:  map[digest]discovery.NodeID{},
	}
	g.sieve = &sieve{
		judge: &judge{book: g.book, port: o.Port, raised: g.raise, lacks: g.lack, relieved: g.relieve, remind: g.remind},
		count: &g.count,
		frame: g.take,
		held:  func(told []byte, from netip.Addr) { g.compare(told, from, 0) },
	}
	g.queue = &memberlist.TransmitLimitedQueue{NumNodes: g.book.living, RetransmitMult: 4}
	g.queue.QueueBroadcast(&broadcast{name: "ballast", msg: ballast[:]})
	g.pen.seq = o.Seq
	if err := g.SetChain(o.Chain); err != nil {
		return nil, err
	}
	return g, nil
}

// SetChain replaces own certificates after a renewal, and tells all.
func (g *Gossip) SetChain(chain [][]byte) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("gossip: own chain has %d certificates, want 1-%d", len(chain), maxChain)
	}
	for _, c := range chain {
		if len(c) == 0 || len(c) > maxCert {
			return fmt.Errorf("gossip: own certificate of %d bytes, want 1-%d", len(c), maxCert)
		}
	}
	id, key, err := g.opt.Verify(chain)
	if err != nil {
		return fmt.Errorf("gossip: verify own chain: %w", err)
	}
	if id.ID != g.opt.Self.ID || id.Addr != g.opt.Self.Addr {
		return fmt.Errorf("gossip: own chain is of %s at %s, want %s at %s", id.ID, id.Addr, g.opt.Self.ID, g.opt.Self.Addr)
	}
	g.book.mu.Lock()
	g.book.put(id, key, chain)
	g.book.mu.Unlock()
	g.pen.mu.Lock()
	g.pen.leaf, g.pen.whole = digestOf(chain[0]), wholeOf(chain)
	g.pen.mu.Unlock()
	return g.sign()
}

// Ready is closed when this node listens and gossips.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// String names the task.
func (g *Gossip) String() string { return "gossip" }

// Changed delivers once after one or several changes of Members. For a single
// reader.
func (g *Gossip) Changed() <-chan struct{} { return g.changed }

// Members lists all verified nodes, self included, sorted by ID.
func (g *Gossip) Members() []discovery.Member { return g.book.members() }

// Counters are sums since New: what was dropped, by cause, and what was sent
// and received.
func (g *Gossip) Counters() map[string]uint64 { return g.count.all() }

// Run listens on the overlay address and gossips until ctx ends, then leaves
// within a second. It returns an error when it cannot listen, nil on cancel.
// It runs once.
func (g *Gossip) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("gossip: ran before")
	}
	t, err := listen(g)
	if err != nil {
		return err
	}
	g.pen.mu.Lock()
	g.pen.incarnation = max(g.pen.incarnation, 1) // memberlist's first
	g.pen.mu.Unlock()
	timing := g.opt.Timing.defaults(len(g.Members()))
	ml, err := memberlist.Create(g.config(t, timing))
	if err != nil {
		return errors.Join(fmt.Errorf("start memberlist: %w", err), t.Shutdown())
	}
	g.setLive(t)
	close(g.ready)

	var wg sync.WaitGroup
	wg.Go(func() { g.rejoin(ctx, ml, timing.Rejoin) })
	wg.Go(func() { g.chase(ctx, t) })
	wg.Go(func() { g.tend(ctx) })
	wg.Go(func() { g.advertise(ctx, ml) })
	wg.Go(func() { g.introduce(ctx, t) })
	wg.Go(func() { g.prune(ctx) })
	wg.Go(func() { g.spread(ctx, t) })
	wg.Go(func() { g.consider(ctx) })
	wg.Go(func() { g.gather(ctx, t) })
	<-ctx.Done()
	g.setLive(nil)
	if err := ml.Leave(leaveTime); err != nil {
		g.log.Debug("farewell not heard", "err", err)
	}
	if err := ml.Shutdown(); err != nil {
		g.log.Debug("memberlist did not stop cleanly", "err", err)
	}
	wg.Wait()
	g.mark(string(g.opt.Self.ID), discovery.StateLeft)
	return nil
}

// config is memberlist's LAN profile, with our timing, transport and bounds.
// Compression and encryption stay off (see doc.go).
func (g *Gossip) config(t *transport, timing Timing) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	d := delegate{g}
	c.Name = string(g.opt.Self.ID)
	c.Transport = t
	c.BindAddr, c.BindPort = g.opt.Self.Addr.String(), int(g.opt.Port)
	c.AdvertiseAddr, c.AdvertisePort = g.opt.Self.Addr.String(), int(g.opt.Port)
	c.Delegate, c.Alive, c.Events, c.Conflict = d, d, d, d
	c.EnableCompression = false
	c.UDPBufferSize = g.opt.MTU - headers
	c.TCPTimeout = streamTime
	c.ProbeInterval, c.ProbeTimeout = timing.Probe, timing.ProbeTimeout
	c.GossipInterval, c.GossipToTheDeadTime = timing.Gossip, timing.ToTheDead
	c.PushPullInterval = timing.PushPull
	c.DeadNodeReclaimTime = 10 * time.Second
	c.DNSConfigPath = "" // only addresses are joined, never names
	c.LogOutput = logWriter{g.log}
	return c
}

func (g *Gossip) setLive(t *transport) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live = t
}

// advertise tells the newest record's number by memberlist's own means, so
// that a record too large for a datagram, or lost on the way, is asked for.
func (g *Gossip) advertise(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.metaDue:
		}
		g.pen.mu.Lock()
		next := g.pen.incarnation
		g.pen.mu.Unlock()
		g.raise(next)
		if err := ml.UpdateNode(time.Second); err != nil {
			g.log.Debug("new record number not told", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(metaPause):
		}
	}
}

// mark sets a state and wakes who waits for changes.
func (g *Gossip) mark(id string, s discovery.MemberState) {
	if g.book.mark(discovery.NodeID(id), s) {
		g.changedTo(id, s)
	}
}

func (g *Gossip) changedTo(id string, s discovery.MemberState) {
	g.log.Info("member", "node", id, "reason", string(s))
	g.wake(g.changed)
}

func (g *Gossip) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
