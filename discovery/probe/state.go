package probe

import (
	"cmp"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
)

// state is what the loop owns: the wish in force, the peers, what is to be
// confessed and what is to be reported.
type state struct {
	started  time.Time
	last     time.Time // of the loop's newest turn
	pausedAt time.Time

	sendErr      string
	sendErrSince time.Time
	warnedAt     time.Time

	cur     discovery.ProbeWish
	peers   map[netip.Addr]*peer
	sorted  []*peer // by node
	pulsed  []*peer // of these, those that are not quiet
	quietAt time.Time
	groups  []group
	high    uint64 // highest sequence ever sent to anybody
	own     []ownView
	tellNow bool

	reportedAt time.Time
	news       bool // something to report at the usual pace
	urgent     bool // something to report at once

	in       packet
	inNote   note
	out      packet
	sizeSeq  uint64            // of the newest filled packet, to whomever
	buf      [maxSize + 1]byte // one more than allowed shows a longer one
	outBuf   [maxSize]byte
	outViews []told
}

// ownView is an own view with its name as it goes on the wire.
type ownView struct {
	discovery.View
	site []byte
}

// guard notices that the loop stood still.
func (p *Prober) guard(now time.Time) bool {
	gap := now.Sub(p.last)
	p.last = now
	if gap <= p.opts.PauseGuard {
		return false
	}
	p.pausedAt, p.urgent = now, true
	p.count.pauses.Add(1)
	p.opts.Logger.Warn("process stood still", "took", gap)
	return true
}

func (p *Prober) begin(now time.Time) {
	p.started, p.last, p.urgent = now, now, true
}

// take makes a new wish the one in force.
func (p *Prober) take(w discovery.ProbeWish, now time.Time) {
	if w.Interval <= 0 {
		w.Interval = 100 * time.Millisecond
	}
	if w.IdleInterval <= 0 {
		w.IdleInterval = time.Second
	}
	w.Interval = max(w.Interval, echoEvery/2)
	w.IdleInterval = max(w.IdleInterval, w.Interval)
	if !slices.Equal(w.Peers, p.cur.Peers) {
		p.settle(w.Peers, now)
	}
	p.tellNow = p.tellNow || !sameStates(w.Views, p.cur.Views)
	p.own = p.own[:0]
	for _, v := range w.Views {
		if len(v.Site) == 0 || len(v.Site) > maxSite || !printable([]byte(v.Site)) {
			p.opts.Logger.Debug("view not told: name does not fit", "site", v.Site)
			continue
		}
		p.own = append(p.own, ownView{View: v, site: []byte(v.Site)})
	}
	p.cur = w
}

// settle makes the peers those of the list, keeping what is known of those
// that stay.
func (p *Prober) settle(list []discovery.ProbePeer, now time.Time) {
	known := make(map[discovery.NodeID]*peer, len(p.sorted))
	for _, q := range p.sorted {
		known[q.Node] = q
	}
	p.peers = make(map[netip.Addr]*peer, len(list))
	p.sorted, p.pulsed = make([]*peer, 0, len(list)), nil
	for _, want := range list {
		addr := want.Addr.Unmap()
		if !addr.IsValid() || want.Node == p.opts.Self || p.peers[addr] != nil {
			continue
		}
		q := known[want.Node]
		if q == nil {
			// Sequences go on where any peer's ended, so that the echo of an
			// earlier stay in the wish can never pass for one of this stay.
			q = &peer{added: now, seq: p.high, first: p.high}
		}
		delete(known, want.Node)
		if q.Group != want.Group {
			q.mood = calm
		}
		q.ProbePeer = want
		q.sizing.ask(want.Size)
		q.grow()
		q.to = netip.AddrPortFrom(addr, p.opts.Port)
		q.udp = net.UDPAddrFromAddrPort(q.to)
		if !q.Tell {
			q.views = nil
		}
		p.peers[addr] = q
		p.sorted = append(p.sorted, q)
	}
	slices.SortFunc(p.sorted, func(a, b *peer) int { return cmp.Compare(a.Node, b.Node) })
	for _, q := range p.sorted {
		if !q.Quiet {
			p.pulsed = append(p.pulsed, q)
		}
	}
	p.groups = grouped(p.pulsed)
	p.news = true
}

// sameStates reports whether two lists of views say the same, ages aside.
func sameStates(a, b []discovery.View) bool {
	return slices.EqualFunc(a, b, func(a, b discovery.View) bool {
		return a.Site == b.Site && a.State == b.State
	})
}

// jittered is d give or take 10 %, so that many nodes do not pulse in step.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
