package gossip

import (
	"slices"
	"time"

	"drawbridge/discovery"
)

// bootsKept is how many boot ids of a node are remembered: what shows up to
// five processes that speak in turn.
const bootsKept = 4

// reboot takes the boot id of a newer record and reports whether it is one from
// before the present one. A restart never goes back, and sequences order the
// records whatever the network did to them: two processes share the key.
func (e *entry) reboot(boot uint64) (back bool) {
	if boot == e.rec.Boot || e.signed == nil {
		return false
	}
	back = boot != 0 && slices.Contains(e.boots[:], boot)
	if !slices.Contains(e.boots[:], e.rec.Boot) {
		copy(e.boots[1:], e.boots[:])
		e.boots[0] = e.rec.Boot
	}
	return back
}

// double notes that two processes speak as the node.
func (b *book) double(id discovery.NodeID, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		e.twin = now
	}
}
