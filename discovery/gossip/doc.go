// Package gossip says who is in the mesh: it spreads every node's signed
// record and keeps an opinion of who is alive.
//
// It promises that a record leaves this room only when its certificate chain
// was verified and its signature is right; that the newest one wins; that what
// this node announces reaches every living node within seconds; that a healed
// partition is whole again within ten seconds; and that no message of one
// hostile member evicts another for longer than a moment, makes this process
// allocate more than a few megabytes, or makes it send to anywhere outside the
// mesh. Liveness is a hint, never evidence.
//
// Outside the process it owns one UDP and one TCP port on the overlay address,
// and nothing on disk: what is to survive a restart is exported to the caller.
//
// It imports the discovery dictionary, the standard library and
// hashicorp/memberlist, which it runs over its own transport: see DESIGN.md.
//
// It never reads the configuration, never issues or judges certificates (Verify
// does), never touches the underlay, and uses no memberlist encryption, because
// WireGuard has already authenticated the peer.
package gossip
