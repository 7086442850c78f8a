package api

import (
	"sync"
	"time"

	"drawbridge/discovery"
)

// JournalSize is how many events a journal keeps: a failover makes some ten,
// so this is weeks of an ordinary mesh, in about half a megabyte.
const JournalSize = 4096

// The kinds of events.
const (
	KindStart   = "start"   // the agent started
	KindVerdict = "verdict" // of a site: from, to
	KindGoal    = "goal"    // goal weight of a pool: from, to
	KindWrite   = "write"   // a hand changed something outside
	KindLeader  = "leader"  // who writes to AWS: from, to
	KindMember  = "member"  // state of a node: from, to
)

// Event is one thing that changed.
type Event struct {
	Seq     uint64           `json:"seq"` // 1 is the first since the start
	At      time.Time        `json:"at"`
	Kind    string           `json:"kind"`
	Subject string           `json:"subject"` // node, site, route/pool, hand
	From    string           `json:"from"`
	To      string           `json:"to"`
	Reason  discovery.Reason `json:"reason"`
	Took    Seconds          `json:"took"` // 0 where nothing was waited for
}

// Journal keeps the newest events. The zero value is empty and ready, and its
// methods may be called from any goroutine.
type Journal struct {
	mu   sync.Mutex // guards the fields below
	ring []Event    // grows to JournalSize, then wraps at Seq
	last uint64
}

// Add numbers the event, stamps it with the present time unless it has one,
// keeps it and returns it.
func (j *Journal) Add(e Event) Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e.Seq = j.last
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	if len(j.ring) < JournalSize {
		j.ring = append(j.ring, e)
	} else {
		j.ring[(e.Seq-1)%JournalSize] = e
	}
	return e
}

// Since returns the kept events numbered above seq, oldest first. A number
// above every event was told by an earlier run of the agent: the answer is
// then the whole journal.
func (j *Journal) Since(seq uint64) []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq > j.last {
		seq = 0
	}
	seq = max(seq, j.last-uint64(len(j.ring)))
	out := make([]Event, 0, j.last-seq)
	for n := seq + 1; n <= j.last; n++ {
		out = append(out, j.ring[(n-1)%JournalSize])
	}
	return out
}
