package enroll

import (
	"slices"
	"sync"
	"time"
)

// Limits on strangers. A machine room joins from one public address, so a
// source may do quite a lot; its network a few times as much.
const (
	maxSourceConns  = 32
	maxNetworkConns = 96

	// The places for connections until their ClientHello has come, until the
	// first thing is computed for them, and from then on. A place in the hall
	// costs up to a frame of memory.
	porchSize = 128
	lineSize  = 128
	hallSize  = 256
	// maxConns also counts those that lost their place and are not gone yet.
	maxConns = 2 * (porchSize + lineSize + hallSize)
)

// Connections that may be opened.
var (
	sourceRate  = rate{perSecond: 20, burst: 64}
	networkRate = rate{perSecond: 80, burst: 256}
)

// limiter decides who may come in, who stays, and whose turn it is. The zero
// value is ready.
//
// There is a room for each step that a connection takes, so that those that
// got far cannot take the places of those that begin. When a room is full, a
// newcomer takes the place of a guest for whose network at least as much was
// done of late: of one that has its answer already, else of the one whose
// network had most, of those the oldest. So what is slow cannot hold the door;
// and once each of the networks that attack has had its turn, a host from
// another one comes first.
type limiter struct {
	mu       sync.Mutex // guards all up to hall
	sources  crowd
	networks crowd
	conns    int
	porch    room
	line     room
	hall     room

	turns  turnstile
	counts counters
}

// enter lets a guest onto the porch, or says why not. A guest that came in
// must leave. The other one has lost its place and is to be cut; usually nil.
func (l *limiter) enter(g *guest, now time.Time) (other *guest, why count) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= maxConns {
		return nil, countRefusedFull
	}
	src := l.sources.of(g.source, now)
	if src.open >= maxSourceConns || src.left(sourceRate, now) < 1 {
		return nil, countRefusedSource
	}
	net := l.networks.of(g.network, now)
	if net.open >= maxNetworkConns || net.left(networkRate, now) < 1 {
		return nil, countRefusedNetwork
	}
	g.load = net.load.now(now)
	other, ok := l.porch.admit(g, porchSize)
	if !ok {
		return nil, countRefusedFull
	}
	src.enter()
	net.enter()
	l.conns++
	return other, countNone
}

// advance moves a guest to the next room; false when there is no place, or
// the guest has been evicted. The other one has lost its place.
func (l *limiter) advance(g *guest, now time.Time) (other *guest, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.porch.remove(g) {
		return l.line.admit(g, lineSize)
	}
	if l.line.remove(g) {
		l.networks[g.network].load.add(now)
		return l.hall.admit(g, hallSize)
	}
	return nil, false
}

// leave ends the stay of a guest.
func (l *limiter) leave(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.porch.remove(g)
	l.line.remove(g)
	l.hall.remove(g)
	l.conns--
	l.sources[g.source].open--
	l.networks[g.network].open--
}

// guests are all that have a place.
func (l *limiter) guests() []*guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.porch, l.line, l.hall)
}
