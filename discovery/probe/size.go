package probe

import (
	"time"

	"drawbridge/discovery"
)

// Pace of filled packets to one peer. An answered one lets the next go sooner,
// so that a search on a good path is short.
const (
	sizeEvery    = time.Second
	sizeAnswered = 200 * time.Millisecond
)

// Answers to filled packets per peer: an honest one asks five times a second.
const (
	wholeBurst = 8
	wholeEvery = 100 * time.Millisecond
)

// sizing is how filled packets fare on the way to one peer.
type sizing struct {
	size   int       // asked for; 0: nothing is
	first  uint64    // sequences from this one carry the size
	seq    uint64    // newest sent; 0: none of this size
	sentAt time.Time // of seq, or of an attempt to send
	heard  uint64    // newest that came back whole

	whole, lost int       // in a row, saturating
	at          time.Time // when one of this size last came back
}

// ask begins with another size, or ends with 0.
func (z *sizing) ask(size int) {
	if size < minSize || size > maxSize {
		size = 0
	}
	if size != z.size {
		*z = sizing{size: size}
	}
}

// due is when the next filled packet is to go.
func (z *sizing) due() (at time.Time, any bool) {
	switch {
	case z.size == 0:
		return time.Time{}, false
	case z.seq != 0 && z.seq == z.heard:
		return z.sentAt.Add(sizeAnswered), true
	case !z.sentAt.IsZero():
		return z.sentAt.Add(sizeEvery), true
	}
	return time.Time{}, true
}

// next settles what became of the last packet: nothing came until now.
func (z *sizing) next() {
	if z.seq != 0 && z.seq != z.heard {
		z.whole, z.lost = 0, min(z.lost+1, 255)
	}
}

// sent notes a packet as under way.
func (z *sizing) sent(seq uint64, now time.Time) {
	if z.first == 0 {
		z.first = seq
	}
	z.seq, z.sentAt = seq, now
}

// held notes that a packet could not be sent: that says nothing of its size.
// What was under way before is settled.
func (z *sizing) held(now time.Time) {
	z.seq, z.sentAt = z.heard, now
}

// came takes the word that a packet arrived whole, and reports whether that was
// news. One that comes late shows the size as well as one in time.
func (z *sizing) came(n *note, now time.Time) bool {
	if n.size != z.size || z.first == 0 || n.seq < z.first || n.seq > z.seq || n.seq <= z.heard {
		return false
	}
	z.heard, z.at = n.seq, now
	z.whole, z.lost = min(z.whole+1, 255), 0
	return true
}

func (z *sizing) tell(o *discovery.Observation) {
	o.Size, o.SizeAt, o.SizeWhole, o.SizeLost = z.size, z.at, z.whole, z.lost
}
