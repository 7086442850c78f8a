package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// acceptRate bounds what the door itself costs, so that something of workRate
// is left for those that came in. More connections wait in the kernel's queue,
// and beyond its end the kernel drops them.
var acceptRate = rate{perSecond: 2000, burst: 500}

// Run serves connections of ln, which it closes, until ctx ends; then it waits
// for those under way, which are cut, and returns nil.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	if _, err := s.certificate(nil); err != nil {
		return fmt.Errorf("serve enrolment: %w", err)
	}
	tuneListener(ln)
	defer func() {
		for _, g := range s.limit.guests() {
			g.cut()
		}
	}()
	conf := s.tlsConfig()
	var pace bucket
	var told crowding
	for {
		conn, err := ln.Accept()
		now := time.Now()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve enrolment: %w", err)
		}
		if err != nil {
			// Out of file descriptors, or a connection that is gone already.
			s.log.Warn("accept", "err", err)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		if g := s.door(conn, now); g != nil {
			conns.Go(func() { s.serve(ctx, g, conf) })
		}
		s.limit.turns.charge(acceptCost)
		told.tell(s, now)
		pace.left(acceptRate, now)
		pace.credit--
		wait(ctx, pace.until(0, acceptRate, now))
	}
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// crowding is what the log was told last of connections turned away.
type crowding struct {
	at   time.Time
	away uint64
}

// tell tells it again, once a minute at most, when they are more than a few.
func (c *crowding) tell(s *Server, now time.Time) {
	if now.Sub(c.at) < time.Minute {
		return
	}
	away := uint64(0)
	for _, k := range []count{countRefusedSource, countRefusedNetwork, countRefusedFull, countRefusedBusy, countEvicted} {
		away += s.limit.counts[k].Load()
	}
	if away-c.away < 100 {
		return
	}
	s.log.Warn("strangers crowd the enrolment port", "turned_away", away-c.away, "since", c.at)
	c.at, c.away = now, away
}

// door lets a connection in, or turns it away: nil. It does not block.
func (s *Server) door(conn net.Conn, now time.Time) *guest {
	g := newGuest(conn, &s.limit.turns, now)
	other, why := s.limit.enter(g, now)
	if why != countNone {
		s.limit.counts[why].Add(1)
		g.cut()
		return nil
	}
	if other != nil {
		other.evict()
	}
	s.limit.counts[countAccepted].Add(1)
	return g
}

// advance takes a guest to the next room.
func (s *Server) advance(g *guest) error {
	other, ok := s.limit.advance(g, time.Now())
	if other != nil {
		other.evict()
	}
	if !ok {
		return g.fail(countRefusedBusy)
	}
	return nil
}

// serve handles one connection, to its end.
func (s *Server) serve(ctx context.Context, g *guest, conf *tls.Config) {
	defer g.cut()
	tc, err := s.receive(ctx, g, conf)
	if tc != nil {
		s.stream(ctx, tc, g)
		return
	}
	if err == nil {
		s.limit.counts[countAnswered].Add(1)
		return
	}
	s.limit.counts[g.why].Add(1)
	s.log.Debug("enrolment connection", "endpoint", g.from, "reason", g.why, "err", err)
}

// receive is a guest's whole stay in the rooms. A connection that is for a
// stream lives on after it.
func (s *Server) receive(ctx context.Context, g *guest, conf *tls.Config) (stream *tls.Conn, err error) {
	defer s.limit.leave(g)
	tc, err := s.attend(ctx, g, conf)
	g.dropHello()
	g.rest()
	if err == nil && isStream(tc) {
		g.handOver()
		return tc, nil
	}
	g.cut()
	return nil, err
}

// attend takes a guest through its phases.
func (s *Server) attend(ctx context.Context, g *guest, conf *tls.Config) (*tls.Conn, error) {
	if err := g.readHello(s.opts.Streams != nil); err != nil {
		return nil, err
	}
	g.begin(phaseTurn, handshakeTime)
	if err := s.advance(g); err != nil {
		return nil, err
	}
	if err := g.work(); err != nil {
		return nil, err
	}
	g.phase.Store(phaseHandshake)
	if err := s.advance(g); err != nil {
		return nil, err
	}
	tc := tls.Server(g, conf)
	if err := tc.HandshakeContext(context.WithoutCancel(ctx)); err != nil { // cut ends it
		_ = g.fail(countFailedHandshake)
		return nil, err
	}
	s.limit.counts[countHandshakes].Add(1)
	if isStream(tc) {
		return tc, nil
	}
	g.begin(phaseQuestion, questionTime)
	if err := s.exchange(ctx, tc, g.from); err != nil {
		_ = g.fail(countFailedQuestion)
		return nil, err
	}
	_ = tc.CloseWrite() // the answer is out
	g.farewell()
	return tc, nil
}

// tlsConfig is for all connections. Nothing that is said here must stay secret
// for long, so the cheap key exchanges do: a post-quantum one costs strangers'
// handshakes half as much again.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519, tls.CurveP256},
		NextProtos:             []string{protoALPN},
		SessionTicketsDisabled: true,
		GetCertificate:         s.certificate,
		GetConfigForClient:     s.configFor,
	}
}
