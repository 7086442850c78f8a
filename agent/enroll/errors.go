package enroll

import (
	"errors"
	"fmt"
)

// Code names what went wrong, on the wire and for scripts.
type Code string

// The codes that a gateway answers with.
const (
	CodeOK           Code = "ok"
	CodeMalformed    Code = "malformed"
	CodeVersion      Code = "version"
	CodeUnknownToken Code = "unknown_token" // never made here, or a wrong proof
	CodeRevoked      Code = "revoked"
	CodeExpired      Code = "expired"
	CodeUsedUp       Code = "used_up"
	CodeOtherSite    Code = "other_site"
	CodeOtherRole    Code = "other_role"
	CodeNameTaken    Code = "name_taken"
	CodeNoIssuer     Code = "no_issuer"
	CodeNoRoot       Code = "no_root"
	CodeFull         Code = "full"
	CodeClockSkew    Code = "clock_skew"
	CodeUnknownNode  Code = "unknown_node" // renewal: not in this gateway's ledger
	CodeInternal     Code = "internal"
)

// The codes that only the joining side uses.
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

// ErrAlreadyJoined means that the state directory belongs to a member. Nothing was done.
var ErrAlreadyJoined = errors.New("already joined")

// refuse is a gateway's refusal.
func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

const newToken = "on the gateway run `drawbridge token create` and use the new token"

// nextStep is the advice for a code that a gateway answered.
func nextStep(c Code) string {
	switch c {
	case CodeExpired, CodeUsedUp, CodeRevoked:
		return newToken
	case CodeUnknownToken:
		return "a token is good only at the gateway that made it and only unchanged; " + newToken
	case CodeOtherSite:
		return "join with the site of the token, or create a token for this site"
	case CodeOtherRole:
		return "join with the role of the token, or create a token for this role"
	case CodeNameTaken:
		return "choose another with --name"
	case CodeNoIssuer:
		return "create the token at a gateway that has an issuing certificate, or renew this gateway's"
	case CodeNoRoot:
		return "create the token at the gateway that holds the root key, or bring root.key back for the moment"
	case CodeFull:
		return "create the token at another gateway: each has its own block of addresses"
	case CodeVersion:
		return "install the same version of drawbridge on both hosts"
	case CodeUnknownNode:
		return "renew at the gateway that this node joined through, or join again with a new token"
	case CodeInternal:
		return "the gateway's log says why"
	}
	return ""
}

// final reports whether asking again, here or elsewhere, is pointless.
func (c Code) final() bool {
	switch c {
	case CodeInternal, CodeNoIssuer, CodeUnreachable, CodeFakeGateway, CodeUnknownToken, CodeUnknownNode, CodeFull:
		return false
	}
	return true
}
