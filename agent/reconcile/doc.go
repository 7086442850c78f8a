// Package reconcile is the one loop in which hands work, and the only retry
// code in the house.
//
// It promises: a hand always works on its newest wish and never on two at
// once; a failed attempt is repeated with jittered backoff, a successful one
// after the hand's own period, so that drift is found; every attempt has a
// deadline and reports an [Outcome].
//
// It owns nothing outside the process and imports nothing but the standard
// library. It never looks inside a wish.
package reconcile
