package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
	"drawbridge/discovery/probe"
	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
	"drawbridge/tunnel/stream"
)

// The paces of AWS reading. The leader reads at the configured pace (5 s by
// default: 0.4 calls a second with two groups, a tenth of what AWS allows an
// account); the others only for their status.
const (
	urgentPace  = time.Second
	standbyPace = 15 * time.Second
)

// hands hands each part of a plan to the loop that carries it out, when that
// part changed. Parts that are absent on this node are nil.
type hands struct {
	device   *reconcile.Loop[tunnel.Config]
	filter   *reconcile.Loop[tunnel.Filter]
	forwards *netstack.Forwarder
	prober   *probe.Prober
	cloud    []*reconcile.Loop[discovery.CloudWish]
	streams  *stream.Carrier // nil on gateways
	herald   *herald

	config tunnel.Config // what does not come from the plan: key, port, address
	poll   time.Duration // of the leader at rest
	last   wishes        // only the brain's goroutine touches it
}

// wishes are the parts of the last plan that were handed over.
type wishes struct {
	peers    []tunnel.Peer
	behind   []netip.Prefix
	mtu      int
	filter   *tunnel.Filter
	forwards []tunnel.Forward
	probe    *discovery.ProbeWish
	cloud    *discovery.CloudWish
	streams  []tunnel.Stream
	direct   []netip.Addr
}

// act hands over what changed. A nil part of the plan keeps what is there.
func (h *hands) act(s *decide.Snapshot, p *decide.Plan) {
	// Said first, done then: the other end of a path must hear of a change
	// before it meets it.
	if p.Direct != nil && !slices.Equal(p.Direct, h.last.direct) {
		h.last.direct = p.Direct
		h.herald.direct(p.Direct)
	}
	// Before the device: what a stream that ends still brings would teach the
	// device an address that is no more.
	if h.streams != nil && p.Streams != nil && !slices.Equal(p.Streams, h.last.streams) {
		h.last.streams = p.Streams
		h.streams.Set(p.Streams)
	}
	peers := p.Peers != nil && !reflect.DeepEqual(p.Peers, h.last.peers)
	behind := p.Behind != nil && !slices.Equal(p.Behind, h.last.behind)
	mtu := p.MTU > 0 && p.MTU != h.last.mtu
	if peers {
		h.last.peers = p.Peers
	}
	if behind {
		h.last.behind = p.Behind
	}
	if mtu {
		h.last.mtu = p.MTU
	}
	if (peers || behind || mtu) && h.last.peers != nil {
		c := h.config
		c.Peers, c.Routes = h.last.peers, slices.Clone(h.last.behind)
		if h.last.mtu > 0 {
			c.MTU = h.last.mtu
		}
		h.device.Set(*c.Normalize())
	}
	if h.filter != nil && p.Filter != nil && !p.Filter.Equal(h.last.filter) {
		h.last.filter = p.Filter
		h.filter.Set(*p.Filter)
	}
	if h.forwards != nil {
		h.forwards.Only(gateways(s.Members))
	}
	if h.forwards != nil && p.Forwards != nil && !reflect.DeepEqual(p.Forwards, h.last.forwards) {
		h.last.forwards = p.Forwards
		h.forwards.Set(p.Forwards)
	}
	if p.Probe != nil && !p.Probe.Equal(h.last.probe) {
		h.last.probe = p.Probe
		h.prober.Set(*p.Probe)
	}
	if p.Cloud != nil && !reflect.DeepEqual(p.Cloud, h.last.cloud) {
		h.last.cloud = p.Cloud
		for _, l := range h.cloud {
			l.Pace(h.pace(p.Cloud))
			l.Set(*p.Cloud)
		}
	}
}

// gateways are the addresses that may reach published services. On a TUN the
// packet filter holds them; a stack of our own asks before it hands over.
func gateways(ms []discovery.Member) []netip.Addr {
	var out []netip.Addr
	for _, m := range ms {
		if m.Role == discovery.RoleGateway {
			out = append(out, m.Addr)
		}
	}
	return out
}

func (h *hands) pace(w *discovery.CloudWish) time.Duration {
	switch {
	case w.Urgent:
		return urgentPace
	case w.Write:
		return h.poll
	default:
		return max(h.poll, standbyPace)
	}
}

// outcomes keeps the last outcome of every hand and tells the journal of every
// change that a hand made.
type outcomes struct {
	mu   sync.Mutex // guards last
	last map[string]reconcile.Outcome
}

func (o *outcomes) put(out reconcile.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[string]reconcile.Outcome{}
	}
	o.last[out.Hand] = out
}

// loop makes the loop of one hand.
func loop[W any](name string, apply reconcile.Apply[W], every time.Duration, report func(reconcile.Outcome), log *slog.Logger) *reconcile.Loop[W] {
	return reconcile.New(name, apply, reconcile.Options{Every: every, Report: report, Logger: log.With("room", name)})
}

// applyDevice fits a device into a loop.
func applyDevice(d tunnel.Device) reconcile.Apply[tunnel.Config] {
	return func(ctx context.Context, c tunnel.Config) (int, error) { return 0, d.Apply(ctx, c) }
}
