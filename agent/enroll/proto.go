package enroll

import (
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

const (
	protoVersion = 2
	// protoALPN keeps its number: hosts of another version connect, and are
	// told in words which version to install.
	protoALPN = "drawbridge-enroll/1"
	// DefaultPort is the TCP port of enrolment: the same number as
	// WireGuard's UDP port, so that operators open one number.
	DefaultPort = 51820

	maxEndpoints = 8
	// maxSeeds and maxNotices bound what these take of an answer; base64 adds
	// a third.
	maxSeeds   = 40 << 10
	maxNotices = 96 << 10
	// maxChain bounds the certificates in a question, maxCert each of them
	// (ours have about 600 bytes).
	maxChain = 6
	maxCert  = 4 << 10
	// maxProof bounds what is carried to AWS: a signed request with a session token.
	maxProof = 16 << 10
	// exchangeTime bounds a whole connection.
	exchangeTime = 10 * time.Second
	// maxSkew is how far two clocks may differ: certificates are backdated so.
	maxSkew = pki.Backdate
)

// The kinds of questions.
const (
	kindJoin    = "join"     // with a token
	kindJoinAWS = "join-aws" // with an AWS identity
	kindRenew   = "renew"    // a node's certificate
	kindCertify = "certify"  // a gateway's issuing key, again
	kindLeave   = "leave"
	kindHello   = "hello"
)

// request carries a question as the very bytes that were signed.
type request struct {
	Question      []byte `json:"question"`
	TokenProof    []byte `json:"token_proof,omitempty"`  // join
	AWSProof      []byte `json:"aws_proof,omitempty"`    // join-aws
	IdentityProof []byte `json:"identity_proof"`         //
	IssuerProof   []byte `json:"issuer_proof,omitempty"` // with an issuing key
}

// question is what a host asks.
type question struct {
	Version   int              `json:"version"`
	Kind      string           `json:"kind"`
	Time      time.Time        `json:"time"` // by the asking host's clock
	Token     string           `json:"token,omitempty"`
	Name      string           `json:"name,omitempty"`
	Site      string           `json:"site,omitempty"` // expected; empty: whatever the token says
	Role      discovery.Role   `json:"role,omitempty"`
	Identity  []byte           `json:"identity"`
	WireGuard []byte           `json:"wireguard,omitempty"`
	Issuer    []byte           `json:"issuer,omitempty"`
	Chain     [][]byte         `json:"chain,omitempty"` // members: their certificates
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	// Subnets are the networks behind the node that it advertises: renew. It
	// gets those that it may have.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
}

// answer is what the gateway says. Mesh, prefix and domain are not in it: the
// joining host reads them from the root that it pinned. Nor are roots: a host
// believes in others only by a notice that is signed with a root it trusts.
type answer struct {
	Version  int       `json:"version"`
	Code     Code      `json:"code"`
	Text     string    `json:"text,omitempty"`
	Time     time.Time `json:"time"` // by the gateway's clock
	Chain    [][]byte  `json:"chain,omitempty"`
	Site     string    `json:"site,omitempty"`    // gateways: to certify themselves for
	Issuer   []byte    `json:"issuer,omitempty"`  // gateways: to certify themselves
	Renewer  []byte    `json:"renewer,omitempty"` // gateways: to renew any node
	Seeds    [][]byte  `json:"seeds,omitempty"`
	Notices  [][]byte  `json:"notices,omitempty"`
	Standing Standing  `json:"standing,omitempty"` // hello
}

// introduction is a joined gateway's own certificate.
type introduction struct {
	Leaf []byte `json:"leaf"`
}
