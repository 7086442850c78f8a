// Package cloudtest is an AWS in one process: the part of Elastic Load
// Balancing v2, EC2 and STS that hybrid routing needs, on the wire, with a
// load balancer that really balances.
//
// It promises to be at least as strict as AWS: weights, quotas, zones, keys of
// targets, draining, whole-list replacement of actions, and the error codes
// and HTTP statuses of each. Every rule names its source. What AWS leaves
// undefined (all weights zero) is refused. Weights reach the data plane after
// Options.Propagation only; health is measured with real requests while Run
// runs; faults, throttling and delays are injected on demand.
//
// It owns nothing outside the process: its caller serves it (it is an
// http.Handler) and runs it. State lives in memory under one mutex; no I/O
// happens under it.
//
// It imports the standard library and the dictionary (for ELB's limits), and
// is for tests and the lab: the signature of a request is required and its
// scope checked, but only STS verifies it.
//
// It never answers what AWS would refuse because the fake is lazy: what it
// does not know (target types other than ip, conditions other than path and
// host) is refused too.
package cloudtest
