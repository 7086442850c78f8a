package gossip

import "time"

// bucket is a token bucket; the zero value is full. It is not safe for
// concurrent use.
type bucket struct {
	used float64
	at   time.Time
}

// take takes one of burst tokens, which come back at rate per second.
func (b *bucket) take(now time.Time, burst, rate float64) bool {
	b.used = max(0, b.used-max(0, now.Sub(b.at).Seconds())*rate)
	b.at = now
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}

// give gives a token back that was not needed.
func (b *bucket) give() { b.used = max(0, b.used-1) }
