package stream

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// dialTime bounds connecting, TLS included.
	dialTime = 5 * time.Second
	// dialFirst is the wait after a failure, doubling up to dialMost; each is
	// shortened at random by up to a third, so that a room does not come at once.
	dialFirst = time.Second
	dialMost  = 15 * time.Second
	// dialGood is how long a connection has lasted to be no failure.
	dialGood = 10 * time.Second
)

// connect keeps a connection to the peer until the line ends.
func (l *line) connect() {
	wait := dialFirst
	for l.ctx.Err() == nil {
		began := time.Now()
		to := l.target()
		err := l.session(to)
		if l.ctx.Err() != nil {
			return
		}
		l.down(to, err)
		if time.Since(began) >= dialGood+dialTime {
			wait = dialFirst
			continue // it stood: again at once
		}
		t := time.NewTimer(wait - rand.N(wait/3))
		select {
		case <-l.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, dialMost)
	}
}

func (l *line) target() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.To
}

// session is one connection from its beginning to its end.
func (l *line) session(to netip.AddrPort) error {
	conn, err := l.dial(to)
	if err != nil {
		l.carrier.c.failed.Add(1)
		return err
	}
	defer func() { _ = conn.Close() }() // it is over
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { abort(conn) })()
	k := &link{Conn: conn, c: &l.carrier.c}
	l.up(k, to)
	var pulse sync.WaitGroup
	defer pulse.Wait()
	pulse.Go(func() { defer cancel(); k.pulse(ctx, l.leg) })
	out := burst{leg: l.leg}
	err = k.read(func(d []byte) { l.brought(d); out.add(d) }, out.flush)
	cancel()
	return err
}

// dial connects and lets TLS check who answers.
func (l *line) dial(to netip.AddrPort) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, dialTime)
	defer cancel()
	conf, err := l.carrier.opts.TLS(l.wish.Key)
	if err != nil {
		return nil, err
	}
	raw, err := l.carrier.opts.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	tune(raw)
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("tls with %s: %w", to, err)
	}
	return conn, nil
}

func (l *line) up(k *link, to netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.link = k
	l.way.up(now)
	l.status.Up, l.status.Since, l.status.Err = true, now, ""
	if l.status.To != to { // redirected meanwhile
		abort(k.Conn)
	}
	l.carrier.c.connects.Add(1)
	l.carrier.log.Info("stream up", "peer", l.wish.Key, "endpoint", to)
	poke(l.carrier.changed)
}

func (l *line) down(to netip.AddrPort, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link != nil {
		l.link, l.status.Up, l.status.Since = nil, false, time.Now()
		l.carrier.log.Info("stream down", "peer", l.wish.Key, "endpoint", to, "err", err)
	}
	if l.status.To == to { // not of one that is no longer wanted
		l.status.Err = "ended"
		if err != nil {
			l.status.Err = err.Error()
		}
	}
	poke(l.carrier.changed)
}

// brought notes what the stream brought.
func (l *line) brought(d []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.way.brought(d)
}
