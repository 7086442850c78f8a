package enroll

import (
	"net/netip"
	"sync"
	"time"
)

// Limits on strangers, applied before the TLS handshake. A machine room joins
// from one public address, so a source may do quite a lot.
const (
	maxConns       = 256
	maxSourceConns = 32
	sourceBurst    = 64
	sourceRate     = 20 // connections per second
	maxSources     = 1024
)

// limiter counts connections, in all and by source.
type limiter struct {
	mu      sync.Mutex // guards all below
	conns   int
	sources map[netip.Addr]*source
}

type source struct {
	conns  int
	credit float64 // connections it may still open
	at     time.Time
}

// enter reports whether a connection from addr may go on; if so leave must be
// called when it has ended.
func (l *limiter) enter(addr netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= maxConns {
		return false
	}
	key := sourceOf(addr)
	s := l.sources[key]
	if s == nil {
		if s = l.add(key, now); s == nil {
			return false
		}
	}
	s.refill(now)
	if s.conns >= maxSourceConns || s.credit < 1 {
		return false
	}
	s.credit--
	s.conns++
	l.conns++
	return true
}

// leave ends a connection.
func (l *limiter) leave(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
	if s := l.sources[sourceOf(addr)]; s != nil {
		s.conns--
	}
}

// add makes room by forgetting sources with full credit; nil when there is none.
func (l *limiter) add(key netip.Addr, now time.Time) *source {
	if l.sources == nil {
		l.sources = map[netip.Addr]*source{}
	}
	if len(l.sources) >= maxSources {
		for k, s := range l.sources {
			if s.refill(now); s.conns == 0 && s.credit >= sourceBurst {
				delete(l.sources, k)
			}
		}
	}
	if len(l.sources) >= maxSources {
		return nil
	}
	s := &source{credit: sourceBurst, at: now}
	l.sources[key] = s
	return s
}

func (s *source) refill(now time.Time) {
	if d := now.Sub(s.at); d > 0 {
		s.credit = min(sourceBurst, s.credit+d.Seconds()*sourceRate)
		s.at = now
	}
}

// sourceOf is the address, or the /64 of an IPv6 address: one host has as many
// of those as it likes.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}
