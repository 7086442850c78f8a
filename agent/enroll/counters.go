package enroll

import "sync/atomic"

// count is one of the things that a server counts, and the reason why a
// connection was refused.
type count int

const (
	countNone            count = iota
	countAccepted              // let in by the door
	countHandshakes            // TLS completed
	countAnswered              // a question got its answer, a refusal included
	countEvicted               // gave its place to another
	countHungUp                // the other end closed or reset, or this server stopped
	countRefusedSource         // its address has its share of connections, or came too often
	countRefusedNetwork        // the same for its /24 or /48
	countRefusedFull           // no place at the door
	countRefusedBusy           // no place further in, or no turn in time
	countNotTLS                // the first bytes are no ClientHello in one record
	countOtherProtocol         // a ClientHello that does not offer ours
	countOversized             // more bytes or records than any honest host sends
	countDribble               // more reads than any honest host needs
	countSlowHello             // no whole ClientHello in time
	countSlowHandshake         // TLS not completed in time
	countSlowQuestion          // no whole question, or the answer not taken, in time
	countFailedHandshake       // TLS does not go on
	countFailedQuestion        // a frame that deserves no answer
	countStreams               // handed over, to carry a member's datagrams
	counts
)

var countNames = [counts]string{
	countAccepted: "accepted", countHandshakes: "handshakes", countAnswered: "answered", countEvicted: "evicted", countHungUp: "hung-up",
	countRefusedSource: "refused-source", countRefusedNetwork: "refused-network", countRefusedFull: "refused-full",
	countRefusedBusy: "refused-busy",
	countNotTLS:      "refused-not-tls", countOtherProtocol: "refused-other-protocol", countOversized: "refused-oversized",
	countDribble: "refused-dribble", countSlowHello: "refused-slow-hello", countSlowHandshake: "refused-slow-handshake",
	countSlowQuestion: "refused-slow-question", countFailedHandshake: "refused-handshake", countFailedQuestion: "refused-question",
	countStreams: "streams",
}

// Error makes a count the error that ends a connection.
func (c count) Error() string { return countNames[c] }

// counters is safe for concurrent use; the zero value is ready.
type counters [counts]atomic.Uint64

// Counters returns what the enrolment port has seen since the start, by name:
// refused-source, -network and -full are those that were turned away at the
// door; all others are accepted, and end as answered, streams, evicted, hung-up or
// one of the further refused ones.
func (s *Server) Counters() map[string]uint64 {
	out := make(map[string]uint64, counts)
	for c := countNone + 1; c < counts; c++ {
		out[countNames[c]] = s.limit.counts[c].Load()
	}
	return out
}
