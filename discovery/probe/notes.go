package probe

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

const (
	seenEvery  = time.Second      // between repetitions of what a peer is told
	seenForget = 10 * time.Second // what is not repeated for so long is no longer true
)

// extras is what goes to and comes from a peer beside the pulses.
type extras struct {
	speaks byte // the highest version that the peer says it understands; 0 or 1: no notes

	toldAddr netip.AddrPort // newest address told to the peer
	toldAt   time.Time

	seen   netip.AddrPort // what the peer told us of ourselves
	seenAt time.Time

	sizing sizing
	wholes credit
}

// noteDue is when the next note is to go to the peer.
func (p *peer) noteDue() (at time.Time, any bool) {
	if p.speaks < noteVersion {
		return time.Time{}, false
	}
	at, any = p.sizing.due()
	if tellable(p.Seen) {
		told := p.toldAt.Add(seenEvery)
		if p.toldAddr != p.Seen {
			told = time.Time{}
		}
		if !any || told.Before(at) {
			at = told
		}
		any = true
	}
	return at, any
}

// sendNotes sends the notes that are due to the peer.
func (p *Prober) sendNotes(s *socket, q *peer, now time.Time) {
	if at, any := q.noteDue(); !any || now.Before(at) {
		return
	}
	if tellable(q.Seen) && (q.toldAddr != q.Seen || !now.Before(q.toldAt.Add(seenEvery))) {
		q.toldAddr, q.toldAt = q.Seen, now
		p.writeNote(s, q, &note{kind: noteSeen, seen: q.Seen}, now)
	}
	if at, any := q.sizing.due(); any && !now.Before(at) {
		q.sizing.next()
		p.sizeSeq++
		n := &note{kind: noteSize, size: q.sizing.size, boot: p.opts.Boot, seq: p.sizeSeq}
		if p.writeNote(s, q, n, now) {
			q.sizing.sent(n.seq, now)
		} else {
			q.sizing.held(now)
		}
		p.news = true
	}
}

// sendQuietNotes sends the notes that are due to quiet peers.
func (p *Prober) sendQuietNotes(s *socket, now time.Time) {
	if len(p.pulsed) == len(p.sorted) || now.Sub(p.quietAt) < quietNotes {
		return
	}
	p.quietAt = now
	for _, q := range p.sorted {
		if q.Quiet {
			p.sendNotes(s, q, now)
		}
	}
}

// writeNote sends one note and reports whether it is under way, or lost as one
// that the own system finds too big. Any other error is no error of the prober:
// pulses judge that.
func (p *Prober) writeNote(s *socket, q *peer, n *note, now time.Time) bool {
	err := s.write(n.encode(p.outBuf[:], headers(q.to.Addr())), q, now)
	switch {
	case err == nil:
		p.count.sent.Add(1)
	case errors.Is(err, syscall.EMSGSIZE):
		p.count.tooBig.Add(1)
	default:
		p.count.sendErrors.Add(1)
		return false
	}
	return true
}

// noted takes in a note of a peer.
func (p *Prober) noted(s *socket, q *peer, b []byte, now time.Time) {
	n := &p.inNote
	if err := n.decode(b, headers(q.to.Addr())); err != nil {
		p.count.malformed.Add(1)
		return
	}
	p.count.received.Add(1)
	switch n.kind {
	case noteSeen:
		p.urgent = p.urgent || q.seen != n.seen
		q.seen, q.seenAt = n.seen, now
	case noteSize:
		if !q.wholes.take(now, wholeEvery, wholeBurst) {
			p.count.unanswered.Add(1)
			return
		}
		p.writeNote(s, q, &note{kind: noteWhole, size: n.size, boot: n.boot, seq: n.seq}, now)
	case noteWhole:
		if n.boot == p.opts.Boot && q.sizing.came(n, now) {
			p.news = true
		}
	}
}
