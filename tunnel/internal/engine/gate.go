package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/uapi"
)

const (
	// waiting is how many packets to a peer without a session may wait for one.
	// wireguard-go keeps up to 128 times what it reads at once, each packet in
	// 64 kB, for every such peer: hosts that joined and never came cost a
	// gateway gigabytes.
	waiting = 8
	// sessionLife is how long a session carries data after its handshake, and
	// giveUp how long wireguard-go tries for one before it drops what waits
	// (REJECT_AFTER_TIME and REKEY_ATTEMPT_TIME of the WireGuard paper,
	// section 6.1).
	sessionLife = 180 * time.Second
	giveUp      = 90 * time.Second
	// heardLife is how long a packet from a peer vouches for its session.
	heardLife = time.Minute
	// renewBefore is how long before a door shuts wireguard-go is asked whether
	// it should, and renewEvery how often.
	renewBefore = 20 * time.Second
	renewEvery  = 5 * time.Second
	// askEvery is how often wireguard-go is asked for handshakes, at most; with
	// many peers that takes no more than one part in askShare of the time.
	askEvery = 5 * time.Millisecond
	askShare = 20
)

// afterShake are the pauses after which a handshake that came may be complete:
// who answered one has a session when the first data comes back.
var afterShake = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// gate lets packets pass to peers that have a session, and only a few to each
// that has none.
type gate struct {
	ask func() (map[tunnel.Key]time.Time, error) // when peers last shook hands

	mu    sync.RWMutex // guards the maps; doors look after themselves
	doors map[netip.Addr]*door
	wide  map[netip.Prefix]*door
	peers map[tunnel.Key]*door

	held   atomic.Bool    // a packet came to a door that was shut
	asking sync.WaitGroup // the goroutine that asks
	busy   atomic.Bool    // there is one
	next   atomic.Int64   // when there may be one again, in ns since 1970
	closed chan struct{}
}

// door is what the gate knows of a peer.
type door struct {
	open  atomic.Int64 // until when it has a session, in ns since 1970
	let   atomic.Int32 // packets let through without one
	since atomic.Int64 // when the first of them was
}

func newGate() *gate {
	return &gate{doors: map[netip.Addr]*door{}, wide: map[netip.Prefix]*door{}, peers: map[tunnel.Key]*door{}, closed: make(chan struct{})}
}

// close ends asking.
func (g *gate) close() {
	close(g.closed)
	g.asking.Wait()
}

// set follows a change of the wish, in time proportional to the change.
func (g *gate) set(last, next *tunnel.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last == nil {
		clear(g.doors)
		clear(g.wide)
		clear(g.peers)
	}
	// A prefix may move from one peer to another: take all before giving any.
	uapi.Changes(last, next, func(o, _ *tunnel.Peer) {
		if o != nil {
			g.take(o)
		}
	})
	uapi.Changes(last, next, func(o, n *tunnel.Peer) {
		switch {
		case n == nil:
			delete(g.peers, o.Key)
		case o == nil || o.Epoch != n.Epoch:
			g.peers[n.Key] = &door{} // its session is gone
			g.give(n)
		default:
			g.give(n)
		}
	})
}

func (g *gate) take(p *tunnel.Peer) {
	for _, a := range p.AllowedIPs {
		delete(g.wide, a)
		if a.IsSingleIP() {
			delete(g.doors, a.Addr())
		}
	}
}

func (g *gate) give(p *tunnel.Peer) {
	d := g.peers[p.Key]
	for _, a := range p.AllowedIPs {
		if a.IsSingleIP() {
			g.doors[a.Addr()] = d
		} else {
			g.wide[a] = d
		}
	}
}

// find is the door of an address; nil if no peer has it. g.mu must be held.
func (g *gate) find(a netip.Addr) *door {
	if d := g.doors[a]; d != nil {
		return d
	}
	var found *door
	bits := -1
	for p, d := range g.wide {
		if p.Bits() > bits && p.Contains(a) {
			found, bits = d, p.Bits()
		}
	}
	return found
}

// heard notes that a packet came from a peer.
func (g *gate) heard(packet []byte) {
	src, _, ok := addressesOf(packet)
	if !ok {
		return
	}
	g.mu.RLock()
	d := g.find(src)
	g.mu.RUnlock()
	if d == nil {
		return
	}
	// Often, and then nothing is to be written.
	if until := time.Now().Add(heardLife).UnixNano(); until-d.open.Load() > int64(heardLife/10) {
		d.admit(until)
	}
}

// admit opens a door until then, and forgets what it let through before.
func (d *door) admit(until int64) {
	if until > d.open.Load() {
		d.open.Store(until)
	}
	d.let.Store(0)
}

// hold drops packets that would pile up: their sizes become 0.
func (g *gate) hold(packets [][]byte, sizes []int, offset int) {
	var (
		now  = time.Now()
		last netip.Addr
		d    *door
	)
	for i, p := range packets {
		if sizes[i] <= 0 {
			continue
		}
		_, dst, ok := addressesOf(p[offset : offset+sizes[i]])
		if !ok {
			continue
		}
		if dst != last {
			g.mu.RLock()
			d, last = g.find(dst), dst
			g.mu.RUnlock()
		}
		if d != nil && !g.lets(d, now) {
			sizes[i] = 0
		}
	}
}

// lets reports whether a packet to a peer may pass.
func (g *gate) lets(d *door, now time.Time) bool {
	ns := now.UnixNano()
	if left := d.open.Load() - ns; left > 0 {
		if left < int64(renewBefore) && ns-g.next.Load() > int64(renewEvery) {
			g.learn(now)
		}
		return true
	}
	if ns-d.since.Load() > int64(giveUp) {
		d.since.Store(ns)
		d.let.Store(0)
	}
	g.held.Store(true)
	g.learn(now)
	return d.let.Load() < waiting && d.let.Add(1) <= waiting
}

// learn asks wireguard-go which peers have a session, unless it was just
// asked. It does not wait for the answer: the reader of the TUN must not wait
// for wireguard-go, which waits for it in the end.
func (g *gate) learn(now time.Time) {
	if now.UnixNano() < g.next.Load() || !g.busy.CompareAndSwap(false, true) {
		return
	}
	g.asking.Go(func() {
		defer g.busy.Store(false)
		g.inquire()
	})
}

// shaken is to be called when a handshake message comes: some peer may have a
// session soon.
func (g *gate) shaken() {
	if !g.held.Load() || !g.busy.CompareAndSwap(false, true) {
		return
	}
	g.asking.Go(func() {
		defer g.busy.Store(false)
		g.held.Store(false)
		for _, pause := range afterShake {
			select {
			case <-time.After(pause):
				g.inquire()
			case <-g.closed:
				return
			}
		}
	})
}

// inquire asks wireguard-go, and waits for the answer.
func (g *gate) inquire() {
	began := time.Now()
	at, err := g.ask()
	took := time.Since(began)
	g.next.Store(began.Add(took + max(askEvery, askShare*took)).UnixNano())
	if err == nil {
		g.admit(at, began)
	}
}

// admit opens the doors of peers that shook hands.
func (g *gate) admit(at map[tunnel.Key]time.Time, now time.Time) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for k, t := range at {
		if d := g.peers[k]; d != nil && now.Sub(t) < sessionLife {
			d.admit(t.Add(sessionLife).UnixNano())
		}
	}
}

// addressesOf reads source and destination of an IP packet.
func addressesOf(b []byte) (src, dst netip.Addr, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), true
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), true
	}
	return src, dst, false
}
