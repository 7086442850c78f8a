// Package verdict says what we hold to be true of a site: up, dark or
// undecided.
//
// It promises three answers, never a guess. A site is up as soon as one
// observer has fresh proof of one of its nodes; it is dark only when every
// observer that may vote says so with a fresh view; everything else is
// undecided, and undecided means keep. An observer that has just started, that
// stood still, that cannot send, or that cannot tell its own isolation from
// the death of others has no vote.
//
// It owns nothing outside the process. It imports the dictionary and time, and
// never reads a clock: now is an argument.
package verdict
