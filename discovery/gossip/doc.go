// Package gossip says who is in the mesh: it spreads every node's signed
// record and the mesh's notices, and keeps an opinion of who is alive.
//
// It promises that a record leaves this room only when its certificate chain
// was verified and its signature is right; that the newest one wins; that what
// this node announces reaches every living node within seconds; that a healed
// partition is whole again within ten seconds; and that no message of one
// hostile member evicts another for longer than a moment (half a second, and in
// one of some hundred cases a few), makes this process allocate more than a few
// megabytes, or makes it send to anywhere outside the mesh. Liveness is a hint, never evidence.
//
// A notice that is published reaches every living node in a fraction of a
// second, and every other one when it next meets somebody. What it means is
// Judge's affair, which is asked once for each notice, and at a bounded pace for
// each peer. A node that Verify refuses is forgotten at [Gossip.Recheck] and
// stays so, whoever talks of it. Signed records that only two processes with one
// key can have made are told as Member.Twin.
//
// Outside the process it owns one UDP and one TCP port on the overlay address,
// and nothing on disk: what is to survive a restart is exported to the caller.
//
// It imports the discovery dictionary, the standard library and
// hashicorp/memberlist, which it runs over its own transport: see DESIGN.md.
//
// It never reads the configuration, never issues or judges certificates (Verify
// and Prefer do), never reads a notice (Judge does), never touches the underlay,
// and uses no memberlist encryption, because WireGuard has already authenticated
// the peer.
package gossip
