package decide

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// stage is a little world in which the brains of all nodes run: a network with
// cuts, a prober, a gossip that is slow to believe in death, and a cloud.
type stage struct {
	zero, now time.Time
	nodes     []*actor // sorted by id
	routes    []discovery.Route
	tables    []string
	timing    Timing
	doors     []string           // of gateways, where they take streams; none: no story of streams
	udp       map[string]bool    // sites whose firewall drops UDP
	cuts      map[[2]string]bool // links that are cut, by names or sites
	widths    map[[2]string]int  // largest overlay packet from one name or site to another
	underlay  int                // MTU of everybody's link; 0 unknown
	lan       lan
	resolved  []discovery.Endpoint
	aws       *fakeCloud
	seq       uint64
	trace     func(format string, args ...any)
	check     func(a *actor, s *Snapshot, old Memory, p *Plan)
}

// actor is one node with its agent.
type actor struct {
	discovery.Record
	since    time.Time // of this life of the agent
	dead     bool
	left     bool // said goodbye when it died
	revoked  time.Time
	apart    time.Time // in quarantine since
	paused   bool
	woke     time.Time // end of the last pause
	sendErr  time.Time
	clockWas time.Time     // its clock was set back from
	skew     time.Duration // its clock minus that of gw-a; 0: never compared
	begins   time.Time     // its certificate; zero: not known
	lateSeen bool          // membership is kept unsettled
	mem      Memory
	plan     *Plan
	obs      map[string]*discovery.Observation
	sizes    map[string]*attempt
	old      bool // of a version that knows nothing of sizes
	states   map[string]memberSeen
	moved    time.Time
	views    []discovery.View
	told     map[string]discovery.ViewState // view overrides
	reading  discovery.Readings
	nextRead time.Time
	host     *tunnel.Host
	wants    []netip.Prefix // to advertise, as configured
	inflight *discovery.CloudWish
	tried    *discovery.CloudWish
	lands    time.Time

	streams  map[string]*stageStream // by gateway
	endpoint map[tunnel.Key]netip.AddrPort
	said     *tunnel.Status // what the device said at the last whole second
}

// stageStream is what a carrier does: it connects within 200 ms, or fails after
// as long, and tries UDP every five seconds.
type stageStream struct {
	tunnel.StreamStatus
	begun time.Time     // of the present attempt
	wait  time.Duration // between attempts, doubling
	udp   time.Time     // since when UDP works through it
}

type memberSeen struct {
	state discovery.MemberState
	since time.Time
}

// attempt is how packets of one size fare on the way to a peer.
type attempt struct {
	size, whole, lost int
	due               time.Time
}

const tick = 50 * time.Millisecond

func newStage() *stage {
	t := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &stage{
		zero: t, now: t, cuts: map[[2]string]bool{}, udp: map[string]bool{}, widths: map[[2]string]int{}, lan: newLAN(),
		aws: newFakeCloud(), trace: func(string, ...any) {},
	}
}

func (g *stage) add(name, site string, role discovery.Role, eni string, services ...discovery.Service) *actor {
	sum := sha256.Sum256([]byte(name))
	a := &actor{since: g.now, told: map[string]discovery.ViewState{}}
	a.Identity = discovery.Identity{
		// The name in front keeps the order of ids readable in stories.
		ID: discovery.NodeID(hex.EncodeToString([]byte(name)) + hex.EncodeToString(sum[:4])), Name: name, Site: site, Role: role,
		Addr: netip.AddrFrom4([4]byte{10, 77, byte((len(g.nodes) + 1) >> 8), byte(len(g.nodes) + 1)}), WireGuard: sum, NotAfter: g.zero.Add(30 * 24 * time.Hour),
	}
	a.Seq, a.Services, a.ENI = 1, services, eni
	if role == discovery.RoleGateway {
		a.Endpoints = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(len(g.nodes) + 1)}), 51820)}
	}
	g.nodes = append(g.nodes, a)
	slices.SortFunc(g.nodes, func(a, b *actor) int { return strings.Compare(string(a.ID), string(b.ID)) })
	a.reset(g)
	return a
}

// reset starts the agent anew, with whatever memory it has.
func (a *actor) reset(g *stage) {
	a.since, a.dead, a.left, a.paused, a.woke = g.now, false, false, false, time.Time{}
	a.sizes = map[string]*attempt{}
	a.obs, a.states, a.views, a.plan = map[string]*discovery.Observation{}, map[string]memberSeen{}, nil, nil
	a.streams, a.endpoint = map[string]*stageStream{}, map[tunnel.Key]netip.AddrPort{}
	a.reading, a.nextRead, a.inflight, a.tried, a.moved = discovery.Readings{}, g.now, nil, nil, g.now
}

func (g *stage) actor(name string) *actor {
	for _, a := range g.nodes {
		if a.Name == name {
			return a
		}
	}
	panic(fmt.Sprintf("story: no node %q", name))
}

// reach: packets pass between two living nodes, by UDP or by a stream.
func (g *stage) reach(a, b *actor) bool {
	if !g.linkUp(a, b) {
		return false
	}
	if len(g.doors) == 0 || a.Role == b.Role {
		return true
	}
	if a.Role == discovery.RoleGateway {
		a, b = b, a
	}
	s := a.streams[b.Name]
	if at, ok := a.endpoint[keyOf(b)]; ok && tunnel.Streamed(at) {
		return s != nil && (s.Up || !g.udp[a.Site])
	}
	return !g.udp[a.Site]
}

// carry lets the carrier of a server work.
func (g *stage) carry(a *actor) {
	for _, b := range g.nodes {
		var wish *tunnel.Stream
		for i := range a.plan.Streams {
			if a.plan.Streams[i].Key == keyOf(b) {
				wish = &a.plan.Streams[i]
			}
		}
		if wish == nil {
			delete(a.streams, b.Name)
			continue
		}
		s := a.streams[b.Name]
		if s == nil || s.To != wish.To {
			wait := 500 * time.Millisecond
			if s != nil {
				wait = min(2*s.wait, 16*time.Second)
			}
			s = &stageStream{begun: g.now.Add(wait - 500*time.Millisecond), wait: wait, StreamStatus: tunnel.StreamStatus{Key: wish.Key, To: wish.To, Since: g.now}}
			s.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 86, 0, 1}), 40000+uint16(b.Addr.As4()[3]))
			a.streams[b.Name] = s
		}
		passes := g.linkUp(a, b) && !g.cuts[[2]string{"tcp", fmt.Sprint(wish.To.Port())}]
		switch {
		case g.now.Sub(s.begun) < 200*time.Millisecond:
		case passes && !s.Up:
			s.Up, s.Err, s.Since = true, "", g.now
		case !passes && s.Up:
			s.Up, s.Err, s.Since, s.begun = false, "silent", g.now, g.now
		case !passes:
			s.Err = "no answer"
		}
		switch {
		case !s.Up || g.udp[a.Site]:
			s.udp = time.Time{}
		case s.udp.IsZero():
			s.udp = g.now.Add(5 * time.Second)
		}
		s.UDP = !s.udp.IsZero() && g.now.Sub(s.udp) >= 3*time.Second
	}
	for _, p := range a.plan.Peers {
		a.endpoint[p.Key] = p.Endpoint
	}
}

// carried is what the device and the carrier of a server say in a story of streams.
func (g *stage) carried(a *actor, s *Snapshot) {
	defer func() {
		if a.said == nil || g.now.Sub(g.zero)%time.Second == 0 {
			a.said = s.Device
		}
		s.Device = a.said
	}()
	s.Device = &tunnel.Status{}
	for _, b := range g.nodes {
		if at, ok := a.endpoint[keyOf(b)]; ok {
			p := tunnel.PeerStatus{Key: keyOf(b), Endpoint: at}
			if o := a.obs[b.Name]; o != nil {
				p.LastHandshake = o.Proof
			}
			s.Device.Peers = append(s.Device.Peers, p)
		}
		if st := a.streams[b.Name]; st != nil {
			s.Streams = append(s.Streams, st.StreamStatus)
		}
	}
	slices.SortFunc(s.Streams, func(x, y tunnel.StreamStatus) int { return x.Key.Compare(y.Key) })
}

// linkUp: the network between two living nodes is there.
func (g *stage) linkUp(a, b *actor) bool {
	if a.dead || b.dead || a.paused || b.paused || a.cutOff() || b.cutOff() {
		return false
	}
	for _, x := range []string{a.Name, a.Site, "*"} {
		for _, y := range []string{b.Name, b.Site, "*"} {
			if a.Site == b.Site && x == a.Site && y == b.Site {
				continue
			}
			if g.cuts[[2]string{x, y}] || g.cuts[[2]string{y, x}] {
				return false
			}
		}
	}
	return true
}

// cutOff: nobody has this node as a peer.
func (a *actor) cutOff() bool { return !a.revoked.IsZero() || !a.apart.IsZero() }

// step lets one tick pass.
func (g *stage) step() {
	g.now = g.now.Add(tick)
	for _, a := range g.nodes {
		if !a.dead && !a.paused {
			g.hear(a)
		}
	}
	g.aws.live(g)
	g.shakeHands()
	for _, a := range g.nodes {
		if !a.dead && !a.paused {
			g.think(a)
		}
	}
}

// hear brings an agent's observations, views and gossip up to date.
func (g *stage) hear(a *actor) {
	for _, b := range g.nodes {
		if a == b {
			continue
		}
		if a.Role == discovery.RoleServer && b.Role == discovery.RoleServer {
			if g.pulsed(a, b) {
				a.obs[b.Name] = &discovery.Observation{Node: b.ID, Proof: g.now.Add(-5 * time.Millisecond), Heard: g.now, RTT: 5 * time.Millisecond}
			}
			continue
		}
		if g.reach(a, b) && a.sendErr.IsZero() {
			a.obs[b.Name] = &discovery.Observation{Node: b.ID, Proof: g.now.Add(-5 * time.Millisecond), Heard: g.now, RTT: 5 * time.Millisecond}
			g.try(a, b)
			for _, v := range b.spoken(g) {
				v.Heard = g.now
				a.hearView(v)
			}
		}
	}
	g.gossip(a)
}

// try sends packets of the wished size, one a second, five while they arrive.
func (g *stage) try(a, b *actor) {
	size := 0
	if a.plan != nil && a.plan.Probe != nil && !b.old {
		for _, p := range a.plan.Probe.Peers {
			if p.Node == b.ID {
				size = p.Size
			}
		}
	}
	t := a.sizes[b.Name]
	if t == nil || t.size != size {
		t = &attempt{size: size, due: g.now.Add(tick)}
		a.sizes[b.Name] = t
	}
	if size != 0 && !g.now.Before(t.due) {
		if most := g.width(a, b); most == 0 || size <= most {
			t.whole, t.lost, t.due = t.whole+1, 0, g.now.Add(200*time.Millisecond)
		} else {
			t.whole, t.lost, t.due = 0, t.lost+1, g.now.Add(time.Second)
		}
	}
	o := a.obs[b.Name]
	o.Size, o.SizeWhole, o.SizeLost = t.size, t.whole, t.lost
}

// width is what the path carries in this direction; 0: everything.
func (g *stage) width(a, b *actor) int {
	for _, x := range []string{a.Name, a.Site} {
		for _, y := range []string{b.Name, b.Site} {
			if w := g.widths[[2]string{x, y}]; w != 0 {
				return w
			}
		}
	}
	return 0
}

// spoken are the views that a node tells.
func (a *actor) spoken(g *stage) []discovery.View {
	if a.plan == nil || a.plan.Probe == nil {
		return nil
	}
	out := slices.Clone(a.plan.Probe.Views)
	for i := range out {
		if s, ok := a.told[out[i].Site]; ok {
			out[i].State = s
		}
	}
	return out
}

func (a *actor) hearView(v discovery.View) {
	out := make([]discovery.View, 0, len(a.views)+1)
	for _, o := range a.views {
		if o.Observer != v.Observer || o.Site != v.Site {
			out = append(out, o)
		}
	}
	out = append(out, v)
	slices.SortFunc(out, func(x, y discovery.View) int {
		return strings.Compare(string(x.Observer)+x.Site, string(y.Observer)+y.Site)
	})
	a.views = out
}

// gossip believes in death after 8 s, and in life at once.
func (g *stage) gossip(a *actor) {
	for _, b := range g.nodes {
		old, known := a.states[b.Name]
		st := old.state
		switch {
		case b == a || g.reach(a, b) || g.linked(a, b):
			st = discovery.StateAlive
		case b.left && known:
			st = discovery.StateLeft
		case !known:
			st = discovery.StateKnown
		case st == discovery.StateAlive:
			if g.now.Sub(old.since) < 0 {
				break
			}
			st = discovery.StateSuspect
		case st == discovery.StateSuspect && g.now.Sub(old.since) >= 8*time.Second:
			st = discovery.StateDead
		}
		if st != old.state {
			a.states[b.Name] = memberSeen{st, g.now}
			if st != discovery.StateSuspect && old.state != discovery.StateSuspect {
				a.moved = g.now
			}
		}
	}
}

// linked: gossip finds a way through any third node.
func (g *stage) linked(a, b *actor) bool {
	for _, c := range g.nodes {
		if c != a && c != b && g.reach(a, c) && g.reach(c, b) {
			return true
		}
	}
	return false
}

// snapshot is what an agent knows now. Nothing in it is shared with the stage.
func (g *stage) snapshot(a *actor) *Snapshot {
	g.seq++
	s := &Snapshot{
		Version: g.seq, Self: a.Identity, Settled: g.now.Sub(a.moved) >= 3*time.Second && !a.lateSeen,
		Views: slices.Clone(a.views), Cloud: a.reading, Underlay: g.underlay,
		Settings: Settings{
			Mesh: netip.MustParsePrefix("10.77.0.0/16"), Routes: g.routes, Tables: g.tables,
			Control: []uint16{53, 7946}, Interface: "drawbridge0", Timing: g.timing, Advertise: a.wants,
		},
		Host: a.host,
	}
	for _, b := range g.nodes {
		if !b.revoked.IsZero() {
			s.Trust.Gone = append(s.Trust.Gone, discovery.Gone{Node: b.ID, Addr: b.Addr, Site: b.Site, Role: b.Role, At: b.revoked})
			continue
		}
		if !b.apart.IsZero() {
			s.Trust.Apart = append(s.Trust.Apart, discovery.Apart{Node: b.ID, Name: b.Name, Reason: string(discovery.ReasonClone), By: "gw-a", Since: b.apart})
		}
		m := discovery.Member{Record: b.Record, State: a.states[b.Name].state, Since: a.states[b.Name].since}
		if b.dead && m.State == "" {
			m.State = discovery.StateKnown
		}
		s.Members = append(s.Members, m)
		if o := a.obs[b.Name]; o != nil {
			s.Sight.Observations = append(s.Sight.Observations, *o)
		}
	}
	s.Device, s.Resolved = g.device(a), g.resolved
	s.Sight.Started, s.Sight.At, s.Sight.Paused = a.since, g.now, a.woke
	s.Trust.ClockWas, s.Trust.Begins = a.clockWas, a.begins
	if a.skew != 0 {
		s.Trust.Skew, s.Trust.SkewWith, s.Trust.SkewAt = a.skew, "gw-a", g.now
	}
	if len(g.doors) > 0 && a.Role == discovery.RoleServer {
		g.carried(a, s)
	}
	if !a.sendErr.IsZero() {
		s.Sight.SendErr, s.Sight.SendErrSince = "network is unreachable", a.sendErr
	}
	return s
}

// think runs the brain and hands its wish to the cloud.
func (g *stage) think(a *actor) {
	s := g.snapshot(a)
	old, before := a.mem, a.plan
	a.mem, a.plan = Decide(g.now, a.mem, s)
	if g.check != nil {
		g.check(a, s, old, a.plan)
	}
	if a.plan.Direct != nil {
		a.Direct = a.plan.Direct
	}
	g.tell(a, before)
	g.hand(a)
	if len(g.doors) > 0 && a.Role == discovery.RoleServer {
		g.carry(a)
	}
}

// hand is the cloud's hand of an agent: on a new wish, or after its own period,
// it reads, and then writes what differs from the wish that it began with.
func (g *stage) hand(a *actor) {
	w := a.plan.Cloud
	if w == nil {
		return
	}
	if a.inflight == nil && (!g.now.Before(a.nextRead) || !sameWish(w, a.tried)) {
		a.inflight, a.lands, a.tried = w, g.now.Add(200*time.Millisecond), w
		a.nextRead = g.now.Add(5 * time.Second)
		a.reading = g.aws.answer(g, a)
	}
	if w.Urgent && a.nextRead.After(g.now.Add(time.Second)) {
		a.nextRead = g.now.Add(time.Second)
	}
	if a.inflight == nil || g.now.Before(a.lands) {
		return
	}
	if a.inflight.Write && g.aws.reachable(a) && !g.aws.readOnly {
		g.aws.apply(g, a.inflight)
	}
	a.reading = g.aws.answer(g, a)
	a.inflight = nil
}

// sameWish compares what would be written.
func sameWish(a, b *discovery.CloudWish) bool {
	return b != nil && a.Write == b.Write && reflect.DeepEqual(a.Splits, b.Splits) &&
		reflect.DeepEqual(a.Targets, b.Targets) && reflect.DeepEqual(a.NextHops, b.NextHops)
}

func (g *stage) run(d time.Duration) {
	for end := g.now.Add(d); g.now.Before(end); {
		g.step()
	}
}

func keyOf(a *actor) tunnel.Key { return tunnel.Key(a.WireGuard) }
