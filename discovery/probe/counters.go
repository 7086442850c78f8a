package probe

import "sync/atomic"

// Counters is what happened since the prober was made.
type Counters struct {
	Sent         uint64 // packets, answers included
	SendErrors   uint64
	TooBig       uint64 // filled packets that the own system would not send
	Received     uint64 // valid packets of peers
	Strangers    uint64 // dropped: source not in the wish, or not the prober's port
	Versions     uint64 // dropped: unknown version
	Malformed    uint64 // dropped: not a packet of ours
	Unanswered   uint64 // echo requests beyond the peer's share
	ViewsDropped uint64 // told by a peer that may not, or too many
	Restarts     uint64 // peers seen with a new boot id
	Forks        uint64 // peers seen with an earlier boot id again: two processes, one identity
	Pauses       uint64 // standstills of the own loop
}

type counters struct {
	sent, sendErrors, received, strangers, versions       atomic.Uint64
	malformed, unanswered, viewsDropped, restarts, pauses atomic.Uint64
	forks, tooBig                                         atomic.Uint64
}

// Counters may be called at any time, from any goroutine.
func (p *Prober) Counters() Counters {
	c := &p.count
	return Counters{
		Sent: c.sent.Load(), SendErrors: c.sendErrors.Load(), TooBig: c.tooBig.Load(), Received: c.received.Load(),
		Strangers: c.strangers.Load(), Versions: c.versions.Load(), Malformed: c.malformed.Load(),
		Unanswered: c.unanswered.Load(), ViewsDropped: c.viewsDropped.Load(),
		Restarts: c.restarts.Load(), Forks: c.forks.Load(), Pauses: c.pauses.Load(),
	}
}
