package enroll

import (
	"math"
	"net/netip"
	"time"
)

// rate is how much credit comes back, and how much there is at most.
type rate struct {
	perSecond float64
	burst     float64
}

// bucket is credit that comes back with time. The zero value is full.
type bucket struct {
	credit float64
	at     time.Time
}

// left is the credit at the moment now. A clock that goes back brings nothing.
func (b *bucket) left(r rate, now time.Time) float64 {
	if b.at.IsZero() {
		b.credit, b.at = r.burst, now
	}
	if d := now.Sub(b.at); d > 0 {
		b.credit = min(r.burst, b.credit+d.Seconds()*r.perSecond)
		b.at = now
	}
	return b.credit
}

// until is how long it takes until there is at least some credit.
func (b *bucket) until(some float64, r rate, now time.Time) time.Duration {
	short := some - b.left(r, now)
	if short <= 0 {
		return 0
	}
	return time.Duration(short / r.perSecond * float64(time.Second))
}

// crowd is who connects: addresses, or networks. It holds at most maxKeys.
type crowd map[netip.Addr]*share

type share struct {
	bucket     // connections that it may open
	open   int // connections
	load   load
}

// load is how much was done for somebody of late: each handshake counts, half
// as much after every halfLife.
type load struct {
	sum float64
	at  time.Time
}

const halfLife = time.Minute

// now is the load at the moment now.
func (l *load) now(now time.Time) float64 {
	if d := now.Sub(l.at); d > 0 {
		if l.sum *= math.Exp2(-d.Seconds() / halfLife.Seconds()); l.sum < 0.01 {
			l.sum = 0
		}
		l.at = now
	}
	return l.sum
}

func (l *load) add(now time.Time) {
	l.now(now)
	l.sum++
}

// maxKeys is above the connections that can be open, so that one without can
// always be forgotten.
const maxKeys = 8192

// of finds the share of a key, or makes it.
func (c *crowd) of(key netip.Addr, now time.Time) *share {
	if s := (*c)[key]; s != nil {
		return s
	}
	if *c == nil {
		*c = crowd{}
	}
	if len(*c) >= maxKeys {
		c.forget(now)
	}
	s := &share{}
	(*c)[key] = s
	return s
}

// enter books a connection.
func (s *share) enter() {
	s.credit--
	s.open++
}

// forget drops the share with the least load of a few that have nothing open;
// the order of a map is random enough to choose them.
func (c *crowd) forget(now time.Time) {
	const few = 16
	var key netip.Addr
	seen, least := 0, 0.0
	for k, s := range *c {
		if s.open > 0 {
			continue
		}
		if n := s.load.now(now); seen == 0 || n < least {
			key, least = k, n
		}
		if seen++; seen == few || least == 0 {
			break
		}
	}
	if seen > 0 {
		delete(*c, key)
	}
}

// sourceOf is the address, or the /64 of an IPv6 address: one host has as many
// of those as it likes.
func sourceOf(a netip.Addr) netip.Addr { return masked(a, 32, 64) }

// networkOf is the /24 or the IPv6 /48: what one attacker rents as a whole.
func networkOf(a netip.Addr) netip.Addr { return masked(a, 24, 48) }

func masked(a netip.Addr, bits4, bits6 int) netip.Addr {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Addr{} // not an address: all of those are one source
	}
	return p.Addr()
}
