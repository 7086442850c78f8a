package enroll

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// phase is how far a connection got.
type phase = int32

const (
	phaseServed    phase = iota // the answer is out
	phaseHello                  // until its ClientHello is here
	phaseTurn                   // until something is computed for it
	phaseHandshake              // until TLS is set up
	phaseQuestion               // until its question is answered
)

// What the other end may take; what this end takes to work is added.
const (
	helloTime     = 2 * time.Second
	handshakeTime = 3 * time.Second
	questionTime  = 3 * time.Second
	answerTime    = 5 * time.Second // to take the answer, and to introduce itself
	farewellTime  = time.Second     // to close after the answer
)

// guest is the connection of a stranger, under TLS. It holds the bounds of its
// phase, and waits for its turn after every read, when there is something to
// work on. It is for one goroutine, but for evict, busy and phase.
type guest struct {
	net.Conn
	from    netip.AddrPort
	source  netip.Addr
	network netip.Addr
	load    float64 // of the network, when it came
	turns   *turnstile

	phase atomic.Int32
	busy  atomic.Bool // the server works for it
	gone  chan struct{}
	end   sync.Once
	lost  atomic.Bool // evicted

	turn    *turn
	ends    time.Time // of the phase
	endsAll time.Time
	working stopwatch
	told    bool  // bytes went out after the handshake
	why     count // the first thing that went wrong
	hello   *[maxHello]byte
	unread  []byte // of hello
	reads   int
	meter   meter
	handed  bool // it is no guest any more: no bounds of ours
}

func newGuest(conn net.Conn, turns *turnstile, now time.Time) *guest {
	from := remote(conn)
	g := &guest{
		Conn: conn, from: from, source: sourceOf(from.Addr()), network: networkOf(from.Addr()),
		turns: turns, turn: newTurn(), gone: make(chan struct{}),
		ends: now.Add(helloTime), endsAll: now.Add(exchangeTime),
	}
	g.phase.Store(phaseHello)
	return g
}

// begin starts a phase.
func (g *guest) begin(p phase, limit time.Duration) {
	g.phase.Store(p)
	g.ends = time.Now().Add(limit)
}

// Read is for TLS. When it returns bytes, it is this guest's turn.
func (g *guest) Read(b []byte) (int, error) {
	if g.handed {
		return g.Conn.Read(b)
	}
	if len(g.unread) > 0 {
		return g.replay(b), nil
	}
	g.rest()
	if g.reads++; g.reads > maxReads {
		return 0, g.fail(countDribble)
	}
	n, err := g.receive(b)
	if err != nil {
		return n, err
	}
	return n, g.work()
}

// receive reads within the bounds.
func (g *guest) receive(b []byte) (int, error) {
	g.SetReadDeadline(g.deadline())
	n, err := g.Conn.Read(b)
	if err == nil && !g.meter.pass(b[:n]) {
		err = countOversized
	}
	return n, g.fail(err)
}

// Write is for TLS. It ends the turn.
func (g *guest) Write(b []byte) (int, error) {
	if g.handed {
		return g.Conn.Write(b)
	}
	g.rest()
	if g.phase.Load() == phaseQuestion && !g.told {
		g.told = true
		g.ends = time.Now().Add(answerTime)
	}
	g.SetWriteDeadline(g.deadline())
	n, err := g.Conn.Write(b)
	g.working.start()
	return n, g.fail(err)
}

// work waits for a turn.
func (g *guest) work() error {
	g.turn.load, g.turn.phase = g.load, g.phase.Load()
	late := time.NewTimer(time.Until(g.deadline()))
	defer late.Stop()
	if !g.turns.take(g.turn, late.C, g.gone) {
		return g.fail(countRefusedBusy)
	}
	g.busy.Store(true)
	g.working.start()
	return nil
}

// rest ends the work, and with it the turn. The time was ours, not the other
// end's.
func (g *guest) rest() {
	took, used, ok := g.working.stop()
	if !ok {
		return
	}
	g.busy.Store(false)
	g.turns.give(g.turn, used)
	g.ends = g.ends.Add(took)
	g.endsAll = g.endsAll.Add(took)
}

func (g *guest) deadline() time.Time {
	if g.endsAll.Before(g.ends) {
		return g.endsAll
	}
	return g.ends
}

// fail keeps the first reason for which the connection ends.
func (g *guest) fail(err error) error {
	if err == nil || g.why != countNone {
		return err
	}
	switch c := count(0); {
	case g.lost.Load():
		g.why = countEvicted
	case errors.As(err, &c):
		g.why = c
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.why = [...]count{phaseServed: countHungUp, phaseHello: countSlowHello, phaseTurn: countRefusedBusy, phaseHandshake: countSlowHandshake, phaseQuestion: countSlowQuestion}[g.phase.Load()]
	default:
		g.why = countHungUp
	}
	return err
}

// evict takes the guest's place. It does not wait.
func (g *guest) evict() {
	g.lost.Store(true)
	g.cut()
}

// cut ends the connection with a reset, which leaves nothing behind here: no
// TIME_WAIT, no unsent bytes.
func (g *guest) cut() {
	g.end.Do(func() {
		close(g.gone)
		abort(g.Conn)
	})
}

// abort closes with a reset.
func abort(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0) // the close counts
	}
	c.Close()
}

// farewell waits for the other end to close first: then TIME_WAIT is there.
func (g *guest) farewell() {
	g.rest()
	g.begin(phaseServed, farewellTime)
	g.endsAll = g.ends
	var b [256]byte
	for range 8 { // more is no goodbye
		if _, err := g.receive(b[:]); errors.Is(err, io.EOF) {
			g.end.Do(func() { g.Conn.Close() })
			return
		} else if err != nil {
			return
		}
	}
}
