package awsid

import "errors"

// Why a proof was not believed. Their texts may be told to the joiner.
var (
	// ErrMalformed says that the proof does not have the form of a proof, or
	// that what it signs is not what it must sign.
	ErrMalformed = errors.New("malformed AWS proof")
	// ErrChallenge says that the proof was made for another challenge.
	ErrChallenge = errors.New("the AWS proof answers another challenge")
	// ErrClock says that the proof was signed too long ago or in the future:
	// the clock of the host or of the gateway is wrong.
	ErrClock = errors.New("the clocks of host, gateway and AWS differ")
	// ErrNotAuthentic says that STS was asked and refused the proof.
	ErrNotAuthentic = errors.New("AWS does not vouch for this proof")
	// ErrIdentity says that the proof is good, but names something that is
	// neither a role nor a user.
	ErrIdentity = errors.New("an AWS identity that cannot join")
	// ErrUnreachable says that STS gave no usable answer, so that nothing is
	// known of the proof; it may be tried again with a new challenge.
	ErrUnreachable = errors.New("no usable answer from STS")
)

// ErrNoCredentials says that this host has no AWS identity to prove.
var ErrNoCredentials = errors.New("no AWS credentials")
