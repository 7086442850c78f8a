package api

import "time"

// Trust is the answer of /v1/trust: the roots, the certificates that rest on
// them, and what was said against nodes.
type Trust struct {
	SchemaVersion int           `json:"schema_version"`
	Epoch         uint64        `json:"epoch"` // of the set of roots; 0: the first
	Roots         []Root        `json:"roots"` // the current one first
	Certificates  []Certificate `json:"certificates"`
	Notices       []Notice      `json:"notices"` // newest first
	// CAs are the certificates of all gateways known here, DER, for the holder
	// of the root key to certify again in a rotation.
	CAs [][]byte `json:"cas"`
	// Signed are the notices as they were signed.
	Signed [][]byte `json:"signed"`
}

// Root is one trusted root.
type Root struct {
	Pin      string    `json:"pin"` // sha256:HEX of its key
	NotAfter time.Time `json:"not_after"`
	Current  bool      `json:"current"`
}

// Certificate is a node's certificate, as this agent holds it.
type Certificate struct {
	Node     string    `json:"node"`
	Name     string    `json:"name"`
	Issuer   string    `json:"issuer"`   // who certified the node
	Renewer  string    `json:"renewer"`  // who prolonged that; "" nobody
	RootPin  string    `json:"root_pin"` // what it rests on
	NotAfter time.Time `json:"not_after"`
	Epoch    uint64    `json:"epoch"` // the set of roots that the node trusts
}

// Notice is a signed statement about a node or an issuer.
type Notice struct {
	Kind   string    `json:"kind"`
	Node   string    `json:"node"`
	Name   string    `json:"name"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Epoch  uint64    `json:"epoch"`
}
