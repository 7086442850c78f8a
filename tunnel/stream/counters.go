package stream

import "sync/atomic"

// counters is what both ends count. The zero value is ready.
type counters struct {
	connects atomic.Uint64 // connections made or taken
	failed   atomic.Uint64 // dials that led to none
	refused  atomic.Uint64 // connections not taken
	replaced atomic.Uint64 // by a newer one of the same node
	cut      atomic.Uint64 // ended because the node is no member any more
	junk     atomic.Uint64 // ended because of what they carried
	in, out  atomic.Uint64 // datagrams out of and into connections
	drops    atomic.Uint64 // datagrams that found no room
	trials   atomic.Uint64 // of UDP
	returns  atomic.Uint64 // to UDP
	relapses atomic.Uint64 // from UDP
}

func (c *counters) all() map[string]uint64 {
	return map[string]uint64{
		"connects": c.connects.Load(), "dials-failed": c.failed.Load(), "refused": c.refused.Load(), "replaced": c.replaced.Load(),
		"cut": c.cut.Load(), "junk": c.junk.Load(), "datagrams-in": c.in.Load(), "datagrams-out": c.out.Load(), "dropped": c.drops.Load(),
		"udp-trials": c.trials.Load(), "udp-returns": c.returns.Load(), "udp-relapses": c.relapses.Load(),
	}
}
