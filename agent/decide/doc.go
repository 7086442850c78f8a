// Package decide is the brain: one pure function from all facts to the whole
// plan.
//
// It promises: the same memory, snapshot and time give the same plan; a part
// of the plan that is nil means keep what is there; every item carries the
// reason that log, metric and `why` print. Doubt never moves anything: an
// undecided site, a membership that has not settled, AWS readings that never
// came, each keep what is there. Every gateway computes the same wish for the
// cloud; only the leader's says that it is to be written.
//
// While a pool is normal, an edit of its weight made by hand in AWS is set
// back to the configured weight.
//
// It owns nothing outside the process. It imports the dictionaries and the
// other rules (tunnel/path, agent/verdict, agent/weight), never reads a clock,
// logs, draws a random number, or starts a goroutine.
package decide
