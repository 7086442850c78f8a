package enroll

import (
	"errors"
	"fmt"
)

// Code names what went wrong, on the wire and for scripts.
type Code string

// The codes that a gateway answers with.
const (
	CodeOK            Code = "ok"
	CodeMalformed     Code = "malformed"
	CodeVersion       Code = "version"
	CodeUnknownToken  Code = "unknown_token" // never made here, or a wrong proof
	CodeRevoked       Code = "revoked"       // the token
	CodeExpired       Code = "expired"       // the token, or a certificate too long ago
	CodeUsedUp        Code = "used_up"
	CodeOtherSite     Code = "other_site"
	CodeOtherRole     Code = "other_role"
	CodeOtherName     Code = "other_name"   // the token or rule is for other names
	CodeOtherSource   Code = "other_source" // the token is for other networks
	CodeNameTaken     Code = "name_taken"
	CodePending       Code = "pending"      // ask again: a person has to decide
	CodeRefused       Code = "refused"      // a person decided
	CodeManyPending   Code = "many_pending" // no further host can wait
	CodeNoIssuer      Code = "no_issuer"
	CodeNoRoot        Code = "no_root"
	CodeFull          Code = "full"
	CodeClockSkew     Code = "clock_skew"
	CodeUnknownNode   Code = "unknown_node" // its certificates say nothing here
	CodeRevokedNode   Code = "revoked_node"
	CodeQuarantined   Code = "quarantined"
	CodeTooOften      Code = "too_often" // recovered as often as is allowed
	CodeNoAWS         Code = "no_aws"    // this gateway takes no AWS identities
	CodeBadAWS        Code = "bad_aws"   // AWS does not confirm it, or no rule is for it
	CodeAWSAway       Code = "aws_away"  // AWS could not be asked
	CodeInstanceTaken Code = "instance_taken"
	CodeBusy          Code = "busy"
	CodeInternal      Code = "internal"
)

// The codes that only the asking side uses.
const (
	CodeFakeGateway Code = "fake_gateway"
	CodeUnreachable Code = "unreachable"
	CodeClash       Code = "prefix_clash"
	CodeBadAnswer   Code = "bad_answer"
)

// Error is a refusal, with the next step for a person.
type Error struct {
	Code Code
	Text string // what happened
	Next string // what to do
	Err  error  // cause, if there is one
}

// Error is text and next step.
func (e *Error) Error() string {
	s := e.Text
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches errors of the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

var (
	// ErrAlreadyJoined means that the state directory belongs to a member. Nothing was done.
	ErrAlreadyJoined = errors.New("already joined")
	// ErrAWSAway is for [Options.AWS]: AWS could not be asked, which says
	// nothing about the identity.
	ErrAWSAway = errors.New("AWS could not be asked")
)

// refuse is a gateway's refusal.
func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

const (
	newToken = "on the gateway run `drawbridge token create` and use the new token"
	newKeys  = "move its state directory away and join again with a new token, so that it makes new keys"
)

// nextSteps are the advice for the codes that a gateway answers with.
var nextSteps = map[Code]string{
	CodeMalformed:     "install the same version of drawbridge on both hosts",
	CodeVersion:       "install the same version of drawbridge on both hosts",
	CodeUnknownToken:  "a token is good only at the gateway that made it and only unchanged; " + newToken,
	CodeRevoked:       newToken,
	CodeExpired:       newToken,
	CodeUsedUp:        newToken,
	CodeOtherSite:     "join with the site of the token, or create a token for this site",
	CodeOtherRole:     "join with the role of the token, or create a token for this role",
	CodeOtherName:     "choose a name that it allows with --name, or create a token with --name GLOB for this one",
	CodeOtherSource:   "join from that network, or create a token with --source CIDR for this one",
	CodeNameTaken:     "choose another with --name; if this host takes the place of one that is gone for good, revoke that one first or create a token with --replace",
	CodePending:       "compare the fingerprint and approve the host on the gateway, then run the same command again: its keys are kept",
	CodeRefused:       "ask the person who runs the mesh; " + newToken,
	CodeManyPending:   "approve or refuse the hosts that wait at the gateway, then run the same command again",
	CodeNoIssuer:      "create the token at a gateway that has an issuing certificate, or renew this gateway's",
	CodeNoRoot:        "ask the gateway that holds the root key, or carry the request to the root key",
	CodeFull:          "create the token at another gateway: each has its own block of addresses",
	CodeUnknownNode:   "look whether its chain.pem is whole, or " + newKeys,
	CodeRevokedNode:   "if the host is to come back, " + newKeys,
	CodeQuarantined:   "find out which of two hosts is the right one; an operator releases it on a gateway, or revokes it",
	CodeTooOften:      newKeys,
	CodeNoAWS:         "set rules for AWS identities in the gateway's configuration, or join with a token",
	CodeBadAWS:        "look at the host's IAM role and at the gateway's rules for AWS identities",
	CodeAWSAway:       "look whether the gateway reaches AWS STS; then run the same command again",
	CodeInstanceTaken: "if the other agent is gone, run the same command again in a minute; if not, stop it, or revoke its node",
	CodeBusy:          "run the same command again in a minute",
	CodeInternal:      "the gateway's log says why",
}

// nextStep is the advice for a code that a gateway answered.
func nextStep(c Code) string { return nextSteps[c] }

// final reports whether asking again, here or elsewhere, is pointless.
func (c Code) final() bool {
	switch c {
	case CodeInternal, CodeNoIssuer, CodeNoAWS, CodeAWSAway, CodeBusy, CodeInstanceTaken, CodeUnreachable, CodeFakeGateway, CodeUnknownToken, CodeUnknownNode, CodeFull:
		return false
	}
	return true
}

// passing reports whether the same question may have another answer in a moment.
func (c Code) passing() bool {
	switch c {
	case CodeInternal, CodeBusy, CodeAWSAway, CodeInstanceTaken, CodeUnreachable:
		return true
	}
	return false
}
