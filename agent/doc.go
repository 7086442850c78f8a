// Package agent is the house: the only place that starts and stops long-lived
// tasks, and the only one that knows every room.
//
//	EARS (facts)                     BRAIN (pure)                HANDS (effects, each its own loop)
//	discovery/gossip   members       tunnel/path                 tunnel/{userspace,netstack}  device, peers
//	discovery/probe    sight     ->  agent/verdict           ->  tunnel/nft                   filter
//	discovery/check    services      agent/weight                tunnel/netstack              forwards
//	device status, AWS readings      agent/decide joins them     discovery/elb                weights, targets
//	        \--> agent/world --Snapshot--> Decide --Plan-------> discovery/vpc                next hops
//
// Where to look, by what one wants to change:
//
//   - what follows from facts: agent/decide and the rules it calls; a story in
//     agent/decide/testdata says it in words
//   - how a fact is gathered: the ear's room; ears.go here connects it
//   - how a wish is carried out: the hand's room; hands.go here connects it
//   - the order in which everything starts and stops: agent.go
//   - who may be a member: trust.go judges certificates, notices.go says what
//     follows from a revocation, command.go takes what a person asks for,
//     renewal.go keeps the own certificate alive, garbage.go takes out clones
//     and what has gone, enrolment.go lets hosts in
//
// It promises: a hand receives only whole wishes, and only when they changed; a
// task that fails ends the agent with its error, after all others were stopped
// in reverse order; nothing that it created outside the process stays behind.
//
// It owns the state directory (through agent/statedir) while it runs.
package agent
