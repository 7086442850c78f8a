package decide

import (
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/path"
)

// The times of streams: WireGuard's datagrams over TLS, where UDP is blocked.
const (
	// streamAfter is the silence, since the start, of a gateway that has never
	// answered until a stream is tried: longer than WireGuard waits between two
	// attempts, which is five seconds. streamLost is the same for one that has
	// answered. Trying costs a TCP connection, and a gateway that takes it is
	// alive: then it is UDP that fails.
	streamAfter = 6 * time.Second
	streamLost  = 3 * time.Second
	// streamYield is how long a stream that stands waits for UDP, when other
	// gateways are reached by UDP: then it was the gateway that was away.
	streamYield = 1500 * time.Millisecond
	// streamHold is how long UDP must work beside a stream until the stream goes;
	// it doubles, up to streamHoldMost, each time that UDP fails within
	// streamRelapse after that.
	streamHold     = 15 * time.Second
	streamHoldMost = 30 * time.Minute
	streamRelapse  = 15 * time.Minute
	// streamJolt is the wait between two handshakes that are forced because the
	// device holds on to an address that leads nowhere.
	streamJolt = 3 * time.Second
	// httpsPort is what the strictest of firewalls let out.
	httpsPort = 443
)

// StreamMemory is what is remembered of the stream to a gateway.
type StreamMemory struct {
	Gateway discovery.NodeID `json:"gateway"`
	Since   time.Time        `json:"since,omitzero"` // of the wish; zero: there is none
	Used    time.Time        `json:"used,omitzero"`  // since when the device has its address; zero: it has not
	Works   time.Time        `json:"works,omitzero"` // since when UDP works beside it
	Door    int              `json:"door,omitempty"` // which of the gateway's addresses is tried
	// Relapses is how often UDP failed soon after a stream had gone, and Ended
	// when the last one that was used went.
	Relapses int       `json:"relapses,omitempty"`
	Ended    time.Time `json:"ended,omitzero"`
}

// streams wishes for streams to the gateways that UDP does not reach. Only
// servers open them. A gateway that is dead does not take one, so it is only
// wished for, and the device keeps the address for UDP.
func (c *scene) streams() {
	if c.gateway() || c.self < 0 {
		return
	}
	c.p.Streams = []tunnel.Stream{}
	for _, i := range c.gates {
		g := &c.mates[i]
		doors, udp := c.streamDoors(g), c.dialled(g)
		mem := StreamMemory{Gateway: g.ID}
		if o := c.old.stream(g.ID); o != nil {
			mem = *o
		}
		if i == c.self || len(doors) == 0 || !udp.IsValid() {
			continue
		}
		at := c.deviceAt(g)
		st := c.streamOf(g)
		yield := st != nil && st.Up && mem.Used.IsZero() && c.now.Sub(st.Since) < streamYield && c.byUDP(g)
		c.turn(&mem, g, st, at, yield)
		if !mem.Since.IsZero() {
			if st != nil && !st.Up && st.Err != "" && st.To == doors[mem.Door%len(doors)] {
				mem.Door = (mem.Door + 1) % len(doors)
			}
			c.p.Streams = append(c.p.Streams, tunnel.Stream{Key: tunnel.Key(g.WireGuard), To: doors[mem.Door%len(doors)], UDP: udp})
		}
		if !mem.Used.IsZero() && st != nil {
			g.stream = st.Local
		}
		g.jolt = c.astray(&mem, g, at) || yield && c.unjolted(g, st.Since)
		if mem != (StreamMemory{Gateway: g.ID}) {
			c.m.Streams = append(c.m.Streams, mem)
		}
	}
	slices.SortFunc(c.p.Streams, func(a, b tunnel.Stream) int { return a.Key.Compare(b.Key) })
}

// turn begins a stream, puts it to use, or ends it.
func (c *scene) turn(mem *StreamMemory, g *mate, st *tunnel.StreamStatus, at *tunnel.PeerStatus, yield bool) {
	direct := c.within(g.proof, c.t.PeerSilent) && (mem.Used.IsZero() || c.strays(mem, at))
	switch {
	case mem.Since.IsZero():
		after := streamLost
		if g.proof.IsZero() {
			after = streamAfter
		}
		if !c.canJudge() || c.now.Sub(later(g.proof, c.s.Sight.Started)) < after {
			return
		}
		mem.Since = c.now
	case direct && mem.Used.IsZero():
		mem.Since = time.Time{} // it was silent, not blocked
	case yield:
	case direct:
		mem.end(c.now)
	case st == nil:
		mem.Works = time.Time{}
	case st.UDP && !mem.Used.IsZero():
		if mem.Works.IsZero() {
			mem.Works = c.now
		}
		if c.now.Sub(mem.Works) >= holdOf(mem.Relapses) {
			mem.end(c.now)
		}
	default:
		mem.Works = time.Time{}
		if !mem.Used.IsZero() || !st.Up || !st.Local.IsValid() {
			return
		}
		if mem.Used = c.now; c.within(mem.Ended, streamRelapse) {
			mem.Relapses++
		} else {
			mem.Relapses = 0
		}
	}
}

func (m *StreamMemory) end(now time.Time) {
	m.Since, m.Works, m.Used, m.Ended = time.Time{}, time.Time{}, time.Time{}, now
}

// holdOf is how long UDP must work after so many relapses.
func holdOf(relapses int) time.Duration {
	return min(streamHold<<min(relapses, 10), streamHoldMost)
}

// astray reports whether the peer must be made anew: it has just come to a
// stream without a session, which it would else wait up to five seconds for; or
// it learned an address that leads nowhere since, in the moment of a change.
func (c *scene) astray(mem *StreamMemory, g *mate, at *tunnel.PeerStatus) bool {
	if at == nil {
		return false
	}
	old := c.old.stream(g.ID)
	if mem.Used.Equal(c.now) && (old == nil || old.Used.IsZero()) {
		return !c.within(at.LastHandshake, sessionLife)
	}
	if e := c.old.epoch(g.ID); e != nil && c.within(e.Last, streamJolt) || c.within(g.proof, c.t.PeerSilent) {
		return false
	}
	switch {
	case !mem.Used.IsZero():
		return c.strays(mem, at)
	case c.within(mem.Ended, streamJolt):
		return false // the device may not have heard yet
	}
	return tunnel.Streamed(at.Endpoint)
}

// strays: the device is told to use the stream, and uses another address. What
// it says may be older than what it was told.
func (c *scene) strays(mem *StreamMemory, at *tunnel.PeerStatus) bool {
	return at != nil && at.Endpoint.IsValid() && !tunnel.Streamed(at.Endpoint) && !c.within(mem.Used, streamJolt)
}

// byUDP reports whether another gateway is reached by UDP.
func (c *scene) byUDP(g *mate) bool {
	return slices.ContainsFunc(c.gates, func(i int) bool {
		m := &c.mates[i]
		o := c.old.stream(m.ID)
		return i != c.self && m.ID != g.ID && c.within(m.proof, c.t.PeerSilent) && (o == nil || o.Used.IsZero() || !o.Works.IsZero())
	})
}

// unjolted: no handshake was forced since.
func (c *scene) unjolted(g *mate, since time.Time) bool {
	e := c.old.epoch(g.ID)
	return e == nil || e.Last.Before(since)
}

// dialled is where a gateway is dialled by UDP; zero: nowhere.
func (c *scene) dialled(g *mate) netip.AddrPort {
	all, _ := c.doors(g)
	if e := c.old.epoch(g.ID); e != nil && slices.Contains(all, e.At) {
		return e.At
	}
	if len(all) == 0 {
		return netip.AddrPort{}
	}
	return all[0]
}

// streamDoors are where a gateway takes streams, the port that is let out most
// often first. What lies inside the mesh would need the tunnel.
func (c *scene) streamDoors(g *mate) []netip.AddrPort {
	out := path.Endpoints(c.inside(), g.Streams, nil)
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return rankDoor(a) - rankDoor(b) })
	return out
}

func rankDoor(a netip.AddrPort) int {
	if a.Port() == httpsPort {
		return 0
	}
	return 1
}

// streamOf is what became of the stream with a node; nil: nothing.
func (c *scene) streamOf(g *mate) *tunnel.StreamStatus { return streamWith(c.s, g.Member) }

func streamWith(s *Snapshot, m *discovery.Member) *tunnel.StreamStatus {
	key := tunnel.Key(m.WireGuard)
	i, ok := slices.BinarySearchFunc(s.Streams, key, func(s tunnel.StreamStatus, k tunnel.Key) int { return s.Key.Compare(k) })
	if !ok {
		return nil
	}
	return &s.Streams[i]
}

// deviceAt is the device's word on a node's peer; nil: none.
func (c *scene) deviceAt(g *mate) *tunnel.PeerStatus {
	if c.s.Device == nil {
		return nil
	}
	for i := range c.s.Device.Peers {
		if p := &c.s.Device.Peers[i]; p.Key == tunnel.Key(g.WireGuard) {
			return p
		}
	}
	return nil
}

// healthStreams tells of gateways that UDP does not reach.
func (c *scene) healthStreams() {
	for i := range c.m.Streams {
		mem := &c.m.Streams[i]
		m := find(c.mates, mem.Gateway, func(m *mate) discovery.NodeID { return m.ID })
		if mem.Used.IsZero() || !mem.Works.IsZero() || m == nil {
			continue
		}
		st := c.streamOf(m)
		if st == nil {
			continue
		}
		if !st.Up {
			c.report("stream-down", Warning, name(m.ID, m.Name), "check that this host reaches it by TCP, and that the gateway runs",
				"udp is blocked, and the TLS connection to %s is down: %s", st.To, st.Err)
			continue
		}
		c.report("udp-blocked", Note, name(m.ID, m.Name), "let this host send UDP to "+c.dialled(m).String()+", which is faster; it goes back by itself",
			"udp is blocked since %s: the tunnel goes over TLS to %s", clock(mem.Since), st.To)
	}
}

// explainStream tells how a stream carries what passes between this node and m.
func explainStream(s *Snapshot, m *discovery.Member) (lines []string) {
	st := streamWith(s, m)
	switch {
	case st == nil:
	case s.Self.Role == discovery.RoleGateway:
		lines = append(lines, "  its datagrams come over TLS from "+st.To.String()+", since "+clock(st.Since)+": it says that UDP is blocked")
	case st.Up && st.UDP:
		lines = append(lines, "  UDP works again; the TLS connection to "+st.To.String()+" is kept for a while")
	case st.Up:
		lines = append(lines, "  UDP is blocked: datagrams go over TLS to "+st.To.String()+", since "+clock(st.Since))
	case st.Err != "":
		lines = append(lines, "  UDP does not reach it, and TLS to "+st.To.String()+" neither: "+st.Err)
	default:
		lines = append(lines, "  UDP does not reach it: TLS to "+st.To.String()+" is being tried")
	}
	return lines
}
