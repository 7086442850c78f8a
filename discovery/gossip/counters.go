package gossip

import (
	"maps"
	"sync"
)

// cause is why something from a peer was dropped, or what is counted. It is
// the word in Counters, metrics and the log.
type cause string

const (
	causeBadSignature   cause = "bad-signature"   // record not signed by the certified key
	causeForeign        cause = "foreign"         // other mesh, or a chain that Verify refuses
	causeStale          cause = "stale"           // older than what is known
	causeClone          cause = "clone"           // two contents under one sequence, an earlier boot id again, or our own identity elsewhere
	causeMalformed      cause = "malformed"       // cannot be read
	causeOversize       cause = "oversize"        // over a bound, or a datagram over the MTU
	causeCompressed     cause = "compressed"      // compressed or encrypted: never used here
	causeBadSource      cause = "bad-source"      // no known node has this address
	causeBadDestination cause = "bad-destination" // we were made to send outside the mesh
	causeBadAddress     cause = "bad-address"     // a claim beside the certificate
	causeBadIncarnation cause = "bad-incarnation" // far above what the node itself signed
	causeUnknownNode    cause = "unknown-node"    // talk about a node without a verified record
	causeRate           cause = "rate"            // more than one peer may say
	causeStreamLimit    cause = "stream-limit"    // too many streams of one peer
	causeConflict       cause = "conflict"        // one name with two addresses
	causeFull           cause = "full"            // over the largest mesh
	causeRefused        cause = "refused"         // by or about a node that was forgotten because Verify refuses it, or a chain refused a moment ago
	causeNoNews         cause = "no-news"         // a notice that changed nothing, or is wrong

	countPacketsIn   cause = "packets-received"
	countPacketsOut  cause = "packets-sent"
	countBytesIn     cause = "bytes-received"
	countBytesOut    cause = "bytes-sent"
	countStreamsIn   cause = "streams-received"
	countStreamsOut  cause = "streams-sent"
	countRecords     cause = "records-accepted"
	countWantsSent   cause = "wants-sent"
	countWantsServed cause = "wants-served"

	countForgotten     cause = "nodes-forgotten"
	countPublished     cause = "notices-published"
	countNews          cause = "notices-accepted"
	countKnown         cause = "notices-repeated" // heard before, not judged again
	countFetches       cause = "fetches-sent"
	countFetchesServed cause = "fetches-served"
)

// counters is safe for concurrent use; the zero value is ready.
type counters struct {
	mu sync.Mutex // guards n
	n  map[string]uint64
}

func (c *counters) add(k cause, n int) {
	if k == "" || n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[string(k)] += uint64(n)
}

func (c *counters) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		return map[string]uint64{}
	}
	return maps.Clone(c.n)
}
