// Package path says who peers with whom in the overlay, and through whom the
// rest is reached.
//
// It promises a deterministic function of signed records and of which gateways
// are alive: two nodes that agree on these agree on the path between them, and
// no overlay address ever stands at two peers. Gateways peer with everyone,
// servers with gateways; other servers are reached through one relay, or
// directly where both records say so ([Mutual]). Who may find out whether that
// works is chosen so that two servers choose each other ([Neighbours]).
//
// There is no hole punching: two servers behind different NATs always go through
// the relay.
//
// It owns nothing outside the process. It imports the dictionaries, and never
// dials, resolves or reads a clock.
package path
