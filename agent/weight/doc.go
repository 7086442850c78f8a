// Package weight says which weight every pool of a route should have now.
//
// It promises: a dark site's pool goes to 0 in one step, without a ramp; it
// comes back by a hold-down, the load balancer's own word for its health, and
// a ramp; it never plans all weights 0, never moves weight to a pool without
// healthy targets, and plans nothing for a pool whose site is undecided. A
// limit on changes may delay a return, never a shift.
//
// Facts come before memory. What the load balancer says decides where a node
// without memory continues, and a node that does not write follows what the
// writer has done. While a pool is normal its weight is the configured one: an
// edit made by hand in AWS is set back at once, the way to change a normal
// weight is the configuration. A weight that somebody else raises while the site
// is dark is left alone until the site returns.
//
// It owns nothing outside the process. It imports the dictionary and time, and
// never reads a clock: now is an argument.
package weight
