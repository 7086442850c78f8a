package probe

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"drawbridge/discovery"
)

// Times of the loop.
const (
	tick       = 20 * time.Millisecond  // the longest wait of the loop with groups
	restTick   = 50 * time.Millisecond  // and without, when nobody is judged by it
	restReport = 250 * time.Millisecond // a report is never older
	writeLimit = 50 * time.Millisecond  // a blocked socket is a send error
	minBackoff = 100 * time.Millisecond // between attempts to open the socket
	maxBackoff = 2 * time.Second
)

// Options of a prober. Listen and Report are required.
type Options struct {
	Self discovery.NodeID
	// Boot changes with every start of the agent and is never 0.
	Boot uint64
	// Listen opens the UDP socket on the own overlay address and Port. It may
	// fail, as it does until the tunnel is up: it is called again with backoff.
	Listen func() (net.PacketConn, error)
	// Port of every prober of the mesh; 0 means 7947. Packets from other
	// source ports are dropped: on a host, any user could send those.
	Port uint16
	// Report takes what was seen, and the views that others told, sorted by
	// observer and site. It is called from the loop and must not wait: waiting
	// is a pause. The slices are the receiver's own.
	Report func(discovery.Sight, []discovery.View)
	// ReportEvery is the pace of reports while there is news, when the wish
	// has groups; 0 means 50 ms. A changed view, a standstill and a return
	// from silence are reported at once. Otherwise, and without groups (on
	// servers) always, a report comes every 250 ms.
	ReportEvery time.Duration
	// PauseGuard is the standstill of the loop that is confessed; 0 means 150 ms.
	PauseGuard time.Duration
	// ViewMaxAge is the age (since Heard) beyond which an own view is told as
	// blind, because whoever makes views has stopped. 0: never.
	ViewMaxAge time.Duration
	Logger     *slog.Logger
}

// Prober exchanges pulses with the peers of its wish. Make one with [New].
//
// In what it reports, Started is when the socket was first opened, since
// before that nothing could be seen. Time without a socket afterwards, and
// time in which every send failed, ends with Paused set like a standstill of
// the process: silence during it proves nothing.
type Prober struct {
	opts  Options
	ready chan struct{}
	wake  chan struct{}
	count counters

	mu    sync.Mutex // guards the fields below
	wish  discovery.ProbeWish
	fresh bool
	conn  net.PacketConn // nil while there is none

	// Owned by Run.
	state
}

// New makes a prober; [Prober.Run] starts it.
func New(o Options) *Prober {
	if o.Port == 0 {
		o.Port = 7947
	}
	if o.ReportEvery == 0 {
		o.ReportEvery = 50 * time.Millisecond
	}
	if o.PauseGuard == 0 {
		o.PauseGuard = 150 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{
		opts: o, ready: make(chan struct{}), wake: make(chan struct{}, 1),
		state: state{peers: map[netip.Addr]*peer{}},
	}
}

// String names the task.
func (p *Prober) String() string { return "prober" }

// Ready is closed when the socket was opened for the first time.
func (p *Prober) Ready() <-chan struct{} { return p.ready }

// Set hands over the newest wish and returns at once. The wish must not be
// changed afterwards.
func (p *Prober) Set(w discovery.ProbeWish) {
	p.mu.Lock()
	p.wish, p.fresh = w, true
	p.mu.Unlock()
	p.rouse()
}

// rouse ends the loop's present wait.
func (p *Prober) rouse() {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if conn != nil {
		// The loop sets its deadline first and looks for news afterwards, so
		// this one is never overwritten unseen.
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// newWish returns the wish if it is new.
func (p *Prober) newWish() (discovery.ProbeWish, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, fresh := p.wish, p.fresh
	p.fresh = false
	return w, fresh
}

func (p *Prober) hasNews() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh
}

func (p *Prober) setConn(c net.PacketConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
}

// Run probes until ctx ends and returns nil then.
func (p *Prober) Run(ctx context.Context) error {
	roused := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(roused)
		p.rouse()
	})
	defer func() {
		if !stop() {
			<-roused
		}
	}()
	p.begin(time.Now())
	for fails := 0; ctx.Err() == nil; {
		conn, err := p.opts.Listen()
		if err == nil {
			fails = 0
			err = p.serve(ctx, conn)
		}
		if ctx.Err() != nil {
			break
		}
		wait := min(minBackoff<<min(fails, 8), maxBackoff)
		fails++
		p.failed(err, wait)
		p.idle(ctx, wait)
	}
	return nil
}

// failed notes that there is no socket.
func (p *Prober) failed(err error, wait time.Duration) {
	changed := p.sendErr == ""
	p.sending(err, time.Now())
	if changed {
		p.opts.Logger.Warn("no probe socket", "err", err, "retry_in", wait)
	} else {
		p.opts.Logger.Debug("no probe socket", "err", err, "retry_in", wait)
	}
}

// idle waits without a socket, but goes on reporting.
func (p *Prober) idle(ctx context.Context, wait time.Duration) {
	for end := time.Now().Add(wait); ctx.Err() == nil; {
		now := time.Now()
		p.guard(now)
		if w, ok := p.newWish(); ok {
			p.take(w, now)
		}
		p.report(now)
		if !now.Before(end) {
			return
		}
		t := time.NewTimer(min(end.Sub(now), tick))
		select {
		case <-p.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// serve works on one socket until it fails or ctx ends, and closes it.
func (p *Prober) serve(ctx context.Context, conn net.PacketConn) error {
	s := newSocket(conn)
	p.setConn(conn)
	defer conn.Close()
	defer p.setConn(nil)
	p.opened(s, time.Now())
	for {
		now := time.Now()
		if p.guard(now) {
			if err := p.drain(s); err != nil {
				return err
			}
			now = time.Now()
			p.last = now
		}
		if w, ok := p.newWish(); ok {
			p.take(w, now)
		}
		p.send(s, now)
		p.report(now)
		if err := conn.SetReadDeadline(p.next(now)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if p.hasNews() {
			continue
		}
		if _, err := p.read(s); err != nil {
			return err
		}
	}
}

// opened notes a new socket. Time without a socket proves nothing, so it
// counts as a standstill; before the first socket there was no prober.
func (p *Prober) opened(s *socket, now time.Time) {
	select {
	case <-p.ready:
		p.pausedAt = now
	default:
		p.started = now
		close(p.ready)
	}
	for _, q := range p.sorted {
		if q.proof.IsZero() {
			q.added = now
		}
	}
	p.last, p.urgent = now, true
	if err := forbidCutting(s.conn); err != nil {
		p.opts.Logger.Warn("packets may be cut on their way: sizes of paths are not to be trusted", "err", err)
	}
	p.opts.Logger.Info("probe socket open", "endpoint", s.conn.LocalAddr())
}

// drain reads what has piled up in the socket while the process stood still.
func (p *Prober) drain(s *socket) error {
	const most, longest, empty = 4096, 100 * time.Millisecond, time.Millisecond
	end := time.Now().Add(longest)
	for range most {
		limit := time.Now().Add(empty)
		if limit.After(end) {
			return nil
		}
		if err := s.conn.SetReadDeadline(limit); err != nil {
			return err
		}
		got, err := p.read(s)
		if err != nil {
			return err
		}
		if !got && !time.Now().Before(limit) { // earlier: only roused
			return nil
		}
	}
	return nil
}

// read takes one packet, or none at the deadline.
func (p *Prober) read(s *socket) (got bool, err error) {
	n, from, err := s.read(p.buf[:])
	if isTimeout(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p.handle(s, p.buf[:n], from, time.Now())
	return true, nil
}
