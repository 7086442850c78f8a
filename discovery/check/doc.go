// Package check finds out how well the services of this node are, on the node
// itself.
//
// It promises: a service is passing or failing only after as many results in a
// row as its specification asks for, and unknown until then; a check that does
// not end within its timeout has failed; checks of different services never
// wait for each other; a report is the whole list, sorted by name, and comes
// only when something in it changed.
//
// It owns nothing outside the process but the connections it opens to local
// services, one per check, closed before the next.
//
// It may import drawbridge/discovery and the standard library.
//
// It never follows a redirect, uses no proxy, reads no more than 64 KiB of an
// answer, and never judges another node.
package check
