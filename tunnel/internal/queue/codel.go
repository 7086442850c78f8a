package queue

import (
	"math"
	"time"
)

const (
	// Target is the delay that may stand; 5 to 10 % of Interval (RFC 8289,
	// section 4.3). It holds a hundred packets at 3 Gbit/s.
	Target = 500 * time.Microsecond
	// Interval is how long the delay may be over Target. The RFC's 100 ms are
	// for the round trips of links; this queue is that of a busy CPU, which an
	// answer from the same data centre should shorten. Senders far away get a
	// few drops within one of their round trips, which they take as one.
	Interval = 5 * time.Millisecond
)

// Codel decides what to drop, by the times that packets spent in the queue.
// The zero value is ready. It is RFC 8289, section 5, without the queue.
type Codel struct {
	over     time.Time // when the delay will have been over Target for Interval; zero: it is not
	dropping bool
	next     time.Time // drop
	count    int       // drops since dropping began
	before   int       // the count when it last began
}

// Drop takes the delay of a packet that leaves the queue at now and reports
// whether to drop it.
func (c *Codel) Drop(now time.Time, delay time.Duration) bool {
	standing := c.standing(now, delay)
	if !c.dropping {
		if !standing {
			return false
		}
		c.dropping = true
		// Soon after a time of dropping, go on at its rate.
		n := 1
		if d := c.count - c.before; d > 1 && now.Sub(c.next) < 16*Interval {
			n = d
		}
		c.count, c.before = n, n
		c.next = now.Add(c.pace())
		return true
	}
	if !standing {
		c.dropping = false
		return false
	}
	if now.Before(c.next) {
		return false
	}
	c.count++
	if c.next = c.next.Add(c.pace()); c.next.Before(now) {
		c.next = now.Add(c.pace()) // packets come seldom; do not make up for it
	}
	return true
}

// standing reports whether the delay has been over Target for all of Interval.
func (c *Codel) standing(now time.Time, delay time.Duration) bool {
	if delay < Target {
		c.over = time.Time{}
		return false
	}
	if c.over.IsZero() {
		c.over = now.Add(Interval)
		return false
	}
	return !now.Before(c.over)
}

func (c *Codel) pace() time.Duration {
	return time.Duration(float64(Interval) / math.Sqrt(float64(c.count)))
}
