// Package probe is the site prober: small two-way pulses between nodes, and
// what this node has learned from them at first hand.
//
// It promises: an [discovery.Observation] never says more than a packet showed.
// Proof of a node is the send time of the newest own packet that the node has
// echoed, so a path that works in one direction only gives none. Before
// anything is judged after a standstill of the own process, the socket is
// read empty, and the standstill is confessed ([discovery.Sight].Paused).
// A change of the own views is told to the other gateways at once. A
// whole group without proof is asked by bursts of echo requests, which are
// answered at once. One packet costs no allocation.
//
// A quiet peer is not pulsed but answered, once a second: a thousand servers
// that prove no site still have proof of their gateways, and give it.
//
// It also tells when two processes use one identity: a boot id that is heard
// again more than a second after another took its place is counted
// (Observation.Forks), because a restart never goes back. What comes sooner is a
// packet that was under way at the restart, and changes nothing.
//
// It owns outside the process: one UDP socket on the overlay, opened by the
// function it was given and opened again whenever it fails.
//
// It may import drawbridge/discovery and the standard library.
//
// It never judges a site (agent/verdict does), never trusts an address outside
// its wish, never answers a stranger, and keeps nothing on disk. One goroutine,
// the caller of [Prober.Run], does everything: it reads the socket between its
// own deadlines, so it knows when the socket is empty.
//
// # Wire format
//
// Version 1, big endian, at most 1200 bytes, unfragmented at any overlay MTU
// from 1228:
//
//	 0  version      1
//	 1  kind         1 pulse, 2 echo request, 3 echo answer
//	 2  views        how many follow, 0 to 30
//	 3  speaks       highest version that the sender understands; 0: 1
//	 4  boot         8 bytes, of the sender's present life
//	12  sequence     8 bytes, of this packet; from 1
//	20  heard boot   8 bytes, the receiver's life that the next field belongs to
//	28  heard        8 bytes, newest sequence heard from the receiver; 0 none
//	36  held         4 bytes, microseconds since it was heard; all ones: longer
//	40  views        each: 1 byte length of the name, 1 byte state (1 lit,
//	                 2 dark, 3 blind), 4 bytes age of the newest proof in
//	                 milliseconds (all ones: never, one less: longer), the name
//
// Version 2 are notes, sent only to a peer whose packets say that it
// understands them. They are extra to the pulses: no note is proof of anything
// but what it says, and none that is missing speaks against the peer.
//
//	 0  version      2
//	 1  kind         1 seen, 2 size, 3 whole
//	 2  size         2 bytes, of the overlay packet that is or was filled up,
//	                 IP and UDP headers included, 576 to 9216; 0 in seen
//	 4  boot         8 bytes, life of who asks (repeated in whole); 0 in seen
//	12  sequence     8 bytes, of the question (repeated in whole); 0 in seen
//	20  seen         the underlay address that the receiver is heard from: 16
//	                 bytes (IPv4 mapped), 2 bytes port
//	20  size         filling, 0, up to the size; the receiver answers whole when
//	                 the datagram is exactly as long as it says
package probe
