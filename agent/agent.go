package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/decide"
	"drawbridge/agent/enroll"
	"drawbridge/agent/reconcile"
	"drawbridge/agent/statedir"
	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/discovery/check"
	"drawbridge/discovery/gossip"
	"drawbridge/discovery/probe"
	"drawbridge/tunnel"
	"drawbridge/tunnel/mtu"
	"drawbridge/tunnel/netstack"
	"drawbridge/tunnel/nft"
)

// Options of an agent. Settings and StateDir are required.
type Options struct {
	Settings config.Settings
	StateDir string
	Version  string
	Logger   *slog.Logger // nil discards
}

// Agent is one node of the mesh at work.
type Agent struct {
	opts    Options
	set     config.Settings
	log     *slog.Logger
	dir     *statedir.Dir
	id      *identity
	trust   *trust
	boot    uint64
	started time.Time

	tunnel   chosen
	world    *world.World
	gossip   *gossip.Gossip
	prober   *probe.Prober
	hands    *hands
	brain    *brain
	cloud    *cloud // nil where no AWS is configured
	herald   *herald
	names    found          // what the own names resolve to
	server   *enroll.Server // of enrolment; nil on servers
	streams  streams
	leaving  context.CancelFunc // ends Run when the node has left for good
	pace     wardenPace
	journal  api.Journal
	outcomes outcomes
}

// New reads the state directory and prepares every room. It changes nothing
// outside the process and starts nothing.
func New(o Options) (*Agent, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{opts: o, set: o.Settings, log: o.Logger, pace: wardenPace{collectEvery, instancesGap}}
	var err error
	if a.dir, err = statedir.Open(o.StateDir); err != nil {
		return nil, err
	}
	a.id, a.trust, err = readIdentity(a.dir, a.log.With("room", "identity"))
	for _, r := range a.dir.Repairs() {
		a.log.Warn("state directory repaired", "what", r)
	}
	if err != nil {
		return nil, err
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make boot id: %w", err)
	}
	a.boot = binary.BigEndian.Uint64(b[:]) | 1
	return a, nil
}

// Run is the agent's life: everything is started in the order of this
// function and stopped in reverse. It blocks until ctx ends (nil), or until
// something that the agent cannot live without has failed.
//
// The function is long because it is the wiring, and straight because that is
// how one reads wiring.
func (a *Agent) Run(ctx context.Context) (err error) {
	a.started = time.Now()
	ctx, a.leaving = context.WithCancel(ctx)
	defer a.leaving()
	release, err := a.dir.Lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	watch := newClock(a.dir, a.trust, a.log.With("room", "clock"))

	// The tunnel first: everything else speaks through it.
	if a.tunnel, err = choose(a.set.Backend, a.set.Interface, a.id.node.Prefix, a.mesh6(), a.forwards(), a.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.tunnel.device.Close()) }()
	remembered := a.remembered()
	link := underlay(a.tunnel.iface, addresses(remembered))
	wish := tunnel.Config{
		PrivateKey: a.id.wg, ListenPort: a.port(), Addr: a.id.self.Addr, Mesh: a.id.node.Prefix,
		Mesh6: a.mesh6(), Addr6: tunnel.Addr6(a.mesh6(), a.id.self.Addr),
		MTU: mtu.Device(a.set.MTU, link, a.tunnel.backend),
	}
	if err := a.tunnel.device.Apply(ctx, wish); err != nil {
		return fmt.Errorf("start tunnel: %w", err)
	}
	network := a.tunnel.device.Network()
	a.log.Info("tunnel up", "node", a.id.self.Name, "addr", a.id.self.Addr, "backend", a.tunnel.backend, "reason", a.tunnel.reason, "port", a.port())

	if err := a.openStreams(ctx); err != nil {
		return err
	}

	// What is on disk brings us back without asking anyone.
	a.world = world.New(a.id.self, a.settings(), a.set.Services)
	a.world.Endpoints(remembered)
	a.world.Underlay(link)

	// Ears. The own certificate is taken even if it ended long ago: a node that
	// was off for months must come up to renew it.
	a.trust.early.Store(true)
	if a.gossip, err = gossip.New(gossip.Options{
		MeshName: a.id.node.Mesh, Mesh: a.id.node.Prefix, Self: a.id.self, Chain: a.id.chain,
		Sign: a.id.sign, Verify: a.trust.verify, Prefer: a.trust.prefer,
		Judge: a.heard, Notices: a.trust.roll.Notices, Digest: a.trust.roll.Digest, Network: network, Port: a.set.Ports.Gossip, MTU: gossipMTU(a.set.MTU),
		Seq: uint64(a.started.UnixMilli()), Logger: a.log.With("room", "gossip"),
	}); err != nil {
		return err
	}
	a.trust.early.Store(false)
	a.importRecords()
	a.trust.world = a.world
	a.lifetime(a.id.chain)
	a.herald = &herald{world: a.world, gossip: a.gossip, log: a.log, said: discovery.Announcement{
		Boot: a.boot, Endpoints: a.endpoints(), Names: a.set.EndpointNames, Version: a.opts.Version, ENI: a.set.AWS.ENI, Trust: a.trust.epoch(),
		Streams: a.doors(), Young: a.id.self.Role == discovery.RoleGateway,
	}}
	a.herald.services(nil)
	a.prober = probe.New(probe.Options{
		Self: a.id.self.ID, Boot: a.boot, Port: a.set.Ports.Probe, Report: a.world.Sight,
		Listen: func() (net.PacketConn, error) {
			return network.ListenPacket("udp", netip.AddrPortFrom(a.id.self.Addr, a.set.Ports.Probe))
		},
		ViewMaxAge: time.Second, Logger: a.log.With("room", "probe"),
	})
	checker := check.New(check.Options{Specs: a.set.Services, Report: a.herald.services, Logger: a.log.With("room", "check")})

	// Hands.
	a.hands = &hands{prober: a.prober, herald: a.herald, config: wish, poll: a.set.AWS.Poll, streams: a.streams.carrier}
	a.hands.device = loop("device", applyDevice(a.tunnel.device), 0, a.outcome, a.log)
	if a.tunnel.iface != "" {
		table := nft.New(nft.Options{Logger: a.log.With("room", "nft")})
		filter := func(ctx context.Context, f tunnel.Filter) (int, error) { return 0, table.Apply(ctx, f) }
		a.hands.filter = loop("filter", filter, 30*time.Second, a.outcome, a.log)
		defer func() { err = errors.Join(err, nft.Cleanup()) }()
	} else {
		a.hands.forwards = netstack.NewForwarder(netstack.ForwarderOptions{
			Network: network, Logger: a.log.With("room", "forward"),
		})
	}
	if a.id.self.Role == discovery.RoleGateway && len(a.set.Routes)+len(a.set.AWS.RouteTables) > 0 {
		if a.cloud, err = newCloud(ctx, a.set.AWS, a.world, a.outcome, a.log); err != nil {
			return err
		}
		a.hands.cloud = a.cloud.loops()
	}

	// Brain.
	tick := serverTick
	if a.id.self.Role == discovery.RoleGateway {
		tick = gatewayTick
	}
	a.brain = &brain{world: a.world, tick: tick, journal: &a.journal, log: a.log.With("room", "brain"), act: a.hands.act}

	// Everything that others connect to is claimed before anything starts, so
	// that a taken port ends the agent with its name and not in a retry loop.
	var listeners []task
	if a.id.self.Role == discovery.RoleGateway {
		t, err := a.enrolment(ctx)
		if err != nil {
			return err
		}
		if t != nil {
			listeners = append(listeners, t, a.warden(ctx))
		}
	}
	if a.set.ConnectProxy != "" {
		listeners = append(listeners, &netstack.Connect{
			Listen: a.set.ConnectProxy, Mesh: a.id.node.Prefix, Network: network, Logger: a.log.With("room", "proxy"),
		})
	}
	desk := api.New(api.Options{Socket: a.set.Socket, Source: source{a}, Commands: commands{a}, Explain: decide.Explain, Logger: a.log.With("room", "api")})

	g := newTasks(a.log)
	defer g.stopAll()
	a.journal.Add(api.Event{Kind: api.KindStart, Subject: a.id.self.Name, To: a.opts.Version})
	g.start(ctx, a.hands.device)
	if a.streams.carrier != nil {
		g.start(ctx, a.streams.carrier)
	}
	g.start(ctx, streamEar{&a.streams, a.world})
	if a.hands.filter != nil {
		g.start(ctx, a.hands.filter)
	}
	if a.hands.forwards != nil {
		g.start(ctx, a.hands.forwards)
	}
	for _, l := range a.hands.cloud {
		g.start(ctx, l)
	}
	g.start(ctx, memberEar{a.gossip, a.world, a.dir, a.log})
	g.start(ctx, a.brain)
	g.start(ctx, a.prober)
	g.start(ctx, a.gossip)
	g.start(ctx, &deviceEar{device: a.tunnel.device, world: a.world, dir: a.dir, log: a.log, known: remembered})
	if a.tunnel.iface != "" {
		g.start(ctx, hostEar{wish: a.hostWish(), world: a.world, log: a.log.With("room", "conflict")})
	}
	g.start(ctx, underlayEar{a.world, a.tunnel.iface, a.log.With("room", "underlay")})
	g.start(ctx, &placeEar{agent: a})
	g.start(ctx, &nameEar{agent: a, lookup: net.DefaultResolver.LookupNetIP})
	g.start(ctx, checker)
	g.start(ctx, named{"history", a.trust.scribe})
	g.start(ctx, a.trust)
	g.start(ctx, watch)
	g.start(ctx, renewal{a})
	g.start(ctx, greeter{a})
	for _, t := range listeners {
		g.start(ctx, t)
	}
	g.start(ctx, desk)
	err = g.wait(ctx)
	a.log.Info("stopping", "err", err)
	return err
}

// outcome keeps what a hand did, and tells the journal when it changed something.
func (a *Agent) outcome(o reconcile.Outcome) {
	a.outcomes.put(o)
	if o.Changed > 0 {
		a.journal.Add(api.Event{At: o.At, Kind: api.KindWrite, Subject: o.Hand, To: fmt.Sprint(o.Changed), Took: api.SecondsOf(o.Took)})
	}
}

// port is the WireGuard port: configured, or as decided by init or join.
func (a *Agent) port() uint16 {
	if a.set.ListenPort != 0 {
		return a.set.ListenPort
	}
	return a.id.node.ListenPort
}

// mesh6 is the mesh prefix in IPv6; invalid where the MTU cannot carry it.
func (a *Agent) mesh6() netip.Prefix {
	if a.set.MTU != 0 && a.set.MTU < 1280 { // RFC 8200, section 5
		return netip.Prefix{}
	}
	return tunnel.Mesh6(a.id.node.Mesh, a.id.node.Prefix)
}

// endpoints are where others can dial us; on-premises nodes only dial out.
func (a *Agent) endpoints() []netip.AddrPort {
	if list := slices.Concat(a.set.Endpoints, a.named()); len(list) > 0 {
		return list
	}
	return a.id.node.Endpoints
}

// settings are the brain's part of the configuration.
func (a *Agent) settings() decide.Settings {
	control := []uint16{a.set.Ports.Gossip, a.set.Ports.Probe}
	slices.Sort(control)
	routes := slices.Clone(a.set.Routes)
	slices.SortFunc(routes, func(x, y discovery.Route) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	tables := slices.Sorted(slices.Values(a.set.AWS.RouteTables))
	return decide.Settings{
		Mesh: a.id.node.Prefix, Mesh6: a.mesh6(), Routes: routes, Tables: tables, Control: control, Advertise: a.set.Advertise,
		Interface: a.tunnel.iface, Backend: a.tunnel.backend, MTU: a.set.MTU, Timing: decide.Timing(a.set.Timing),
	}
}

// remembered are the endpoints on disk; a damaged file is as good as none.
func (a *Agent) remembered() []discovery.Endpoint {
	es, err := a.dir.Endpoints()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a first start
	}
	if err != nil {
		a.log.Warn("remembered endpoints unreadable: peers must dial first", "err", err)
		return nil
	}
	return es
}

func addresses(es []discovery.Endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, len(es))
	for i, e := range es {
		out[i] = e.Addr
	}
	return out
}

// gossipMTU: gossip goes to nodes whose paths were never measured, so its
// packets fit the base, whatever the device takes.
func gossipMTU(configured int) int {
	if configured == 0 {
		return tunnel.DefaultMTU
	}
	return min(configured, tunnel.DefaultMTU)
}

// importRecords hands the records on disk to the gossip.
func (a *Agent) importRecords() {
	blobs, err := a.dir.Peers()
	if errors.Is(err, fs.ErrNotExist) {
		return // a gateway's first start
	}
	if err != nil {
		a.log.Warn("remembered records unreadable: this node needs a gateway that knows it", "err", err)
		return
	}
	a.trust.early.Store(true)
	defer a.trust.early.Store(false)
	a.gossip.Import(blobs)
}
