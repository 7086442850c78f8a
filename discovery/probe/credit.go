package probe

import "time"

// credit bounds what a peer can make us send: one for every interval, and so
// many at once. The zero value is an empty credit that fills at the first use.
type credit struct {
	left int
	at   time.Time
}

// take takes one, if there is one.
func (c *credit) take(now time.Time, every time.Duration, burst int) bool {
	if n := now.Sub(c.at) / every; n > 0 {
		c.left = int(min(int64(n)+int64(c.left), int64(burst)))
		c.at = now
	}
	if c.left == 0 {
		return false
	}
	c.left--
	return true
}
