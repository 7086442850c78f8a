package enroll

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"drawbridge/agent/pki"
)

// decodeQuestion reads and checks everything about a request that needs no
// state: shape, version, proofs of possession.
func decodeQuestion(frame, exported []byte) (request, question, *Error) {
	var r request
	var q question
	if err := unmarshal(frame, &r); err != nil {
		return r, q, refuse(CodeMalformed, "malformed request")
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(r.Question, &v); err == nil && v.Version != protoVersion {
		return r, q, refuse(CodeVersion, "version %d of the enrolment protocol, this gateway speaks %d", v.Version, protoVersion)
	}
	if err := unmarshal(r.Question, &q); err != nil {
		return r, q, refuse(CodeMalformed, "malformed question")
	}
	if err := q.check(); err != nil {
		return r, q, refuse(CodeMalformed, "%v", err)
	}
	if (r.AWSProof != nil) != (q.Kind == kindJoinAWS) || len(r.AWSProof) > maxProof {
		return r, q, refuse(CodeMalformed, "malformed AWS identity")
	}
	if !proven(q.Identity, proofIdentity, exported, r.Question, r.IdentityProof) {
		return r, q, refuse(CodeMalformed, "the identity key is not proven")
	}
	if q.Issuer != nil && !proven(q.Issuer, proofIssuer, exported, r.Question, r.IssuerProof) {
		return r, q, refuse(CodeMalformed, "the issuing key is not proven")
	}
	return r, q, nil
}

func (q question) check() error {
	switch {
	case len(q.Identity) != ed25519.PublicKeySize:
		return errors.New("malformed identity key")
	case q.Issuer != nil && (len(q.Issuer) != ed25519.PublicKeySize || bytes.Equal(q.Issuer, q.Identity)):
		return errors.New("malformed issuing key")
	case len(q.Endpoints) > maxEndpoints:
		return fmt.Errorf("more than %d endpoints", maxEndpoints)
	case len(q.Token) > 64 || len(q.Name) > 63 || len(q.Site) > 63 || len(q.Role) > 63:
		return errors.New("a field is too long")
	case len(q.Chain) > maxChain:
		return fmt.Errorf("more than %d certificates", maxChain)
	case len(q.Subnets) > 0 && q.Kind != kindRenew:
		return errors.New("subnets belong to a renewal")
	case pki.CheckSubnets(netip.Prefix{}, q.Subnets) != nil:
		return errors.New("malformed subnets")
	case (q.Token != "") != (q.Kind == kindJoin):
		return errors.New("a token belongs to a join")
	}
	for _, c := range q.Chain {
		if len(c) > maxCert {
			return fmt.Errorf("a certificate of more than %d bytes", maxCert)
		}
	}
	return q.checkKind()
}

// checkKind holds what each kind of question needs.
func (q question) checkKind() error {
	switch q.Kind {
	case kindJoin, kindJoinAWS:
		if err := q.checkWireGuard(); err != nil {
			return err
		}
		if len(q.Chain) != 0 {
			return errors.New("who joins has no certificates")
		}
		return pki.CheckLabel("name", q.Name)
	case kindRenew:
		return q.checkWireGuard()
	case kindCertify:
		if q.Issuer == nil {
			return errors.New("no issuing key")
		}
		return nil
	case kindLeave, kindHello:
		return nil
	}
	return errors.New("unknown kind of question")
}

func (q question) checkWireGuard() error {
	if len(q.WireGuard) != 32 || [32]byte(q.WireGuard) == [32]byte{} {
		return errors.New("malformed wireguard key")
	}
	return nil
}
