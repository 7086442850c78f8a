// Package queue keeps the queue in front of a busy receiver short without
// losing bursts: datagrams are noted when the kernel takes them from the wire
// ([Transit.In]) and looked for when their content goes to the host
// ([Transit.Late]), and when all of them are late for some time, a packet is
// dropped now and then, so that TCP slows down (CoDel, RFC 8289).
//
// Small socket buffers would keep it short too, but lose most of a burst.
// See tunnel/internal/DATAPLANE.md for both, measured.
//
// It owns nothing outside the process, imports the standard library, never
// waits, logs or starts goroutines, and never drops small packets: pings,
// acknowledgements, names, gossip.
package queue
