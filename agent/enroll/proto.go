package enroll

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

const (
	protoVersion = 1
	protoALPN    = "drawbridge-enroll/1"
	// DefaultPort is the TCP port of enrolment: the same number as
	// WireGuard's UDP port, so that operators open one number.
	DefaultPort = 51820

	maxFrame     = 64 << 10
	maxEndpoints = 8
	// maxSeeds bounds what seeds take of an answer; base64 adds a third.
	maxSeeds = 40 << 10
	// exchangeTime bounds a whole connection.
	exchangeTime = 10 * time.Second
	// maxSkew is how far two clocks may differ: certificates are backdated so.
	maxSkew = pki.Backdate
)

const (
	kindJoin  = "join"
	kindRenew = "renew"
)

// request carries a question as the very bytes that were signed.
type request struct {
	Question      []byte `json:"question"`
	TokenProof    []byte `json:"token_proof,omitempty"`  // join
	IdentityProof []byte `json:"identity_proof"`         //
	IssuerProof   []byte `json:"issuer_proof,omitempty"` // joining gateways
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
	WireGuard []byte           `json:"wireguard"`
	Issuer    []byte           `json:"issuer,omitempty"`
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
}

// answer is what the gateway says. Mesh, prefix, domain and root are not in
// it: the joining host reads them from the root that it pinned.
type answer struct {
	Version int       `json:"version"`
	Code    Code      `json:"code"`
	Text    string    `json:"text,omitempty"`
	Time    time.Time `json:"time"` // by the gateway's clock
	Name    string    `json:"name,omitempty"`
	Leaf    []byte    `json:"leaf,omitempty"`   // servers
	Issuer  []byte    `json:"issuer,omitempty"` // the certificate above the leaf
	Seeds   [][]byte  `json:"seeds,omitempty"`
}

// introduction is a joined gateway's own certificate.
type introduction struct {
	Leaf []byte `json:"leaf"`
}

// What a signature is for. A proof of one kind is never one of another.
const (
	proofToken    = "token"
	proofIdentity = "identity"
	proofIssuer   = "issuer"
)

// transcript is what proofs sign: their purpose, this TLS connection (by its
// exported keying material, RFC 8446, section 7.5), and the question.
func transcript(purpose string, exported, question []byte) []byte {
	sum := sha256.Sum256(question)
	b := []byte("drawbridge enroll 1\x00" + purpose + "\x00")
	b = append(b, exported...)
	return append(b, sum[:]...)
}

func export(cs tls.ConnectionState) ([]byte, error) {
	return cs.ExportKeyingMaterial("EXPORTER-drawbridge-enroll", nil, 32)
}

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
	case q.Kind != kindJoin && q.Kind != kindRenew:
		return errors.New("unknown kind of question")
	case len(q.Identity) != ed25519.PublicKeySize:
		return errors.New("malformed identity key")
	case len(q.WireGuard) != 32 || [32]byte(q.WireGuard) == [32]byte{}:
		return errors.New("malformed wireguard key")
	case q.Issuer != nil && (len(q.Issuer) != ed25519.PublicKeySize || bytes.Equal(q.Issuer, q.Identity)):
		return errors.New("malformed issuing key")
	case len(q.Endpoints) > maxEndpoints:
		return fmt.Errorf("more than %d endpoints", maxEndpoints)
	case len(q.Token) > 64 || len(q.Site) > 63 || len(q.Role) > 63:
		return errors.New("a field is too long")
	}
	if q.Kind == kindJoin {
		return pki.CheckLabel("name", q.Name)
	}
	return nil
}

// proven checks one signature. key has the right length.
func proven(key []byte, purpose string, exported, question, proof []byte) bool {
	return ed25519.Verify(key, transcript(purpose, exported, question), proof)
}

// unmarshal is strict: unknown fields and trailing bytes are errors.
func unmarshal(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the value")
	}
	return nil
}

// readFrame reads one length and so many bytes.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("read frame: %d bytes, at most %d", n, maxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return b, nil
}

// writeFrame writes a value as one frame.
func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if len(b) > maxFrame {
		return fmt.Errorf("write frame: %d bytes, at most %d", len(b), maxFrame)
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}
