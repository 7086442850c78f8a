package rootca

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// Request asks the root to certify a gateway: a new one, or one whose
// certificates end. It is public, and proves nothing: whoever carries it to the
// root compares the [Request.Fingerprint] with the gateway's.
type Request struct {
	Mesh   string
	Name   string            // the gateway's
	Node   discovery.NodeID  // the gateway's
	Issuer ed25519.PublicKey // its issuing key
	Pin    [32]byte          // of the mesh root that it trusts, see [pki.Pin]
}

// requestForm is what is written.
type requestForm struct {
	Version int              `json:"version"`
	Mesh    string           `json:"mesh"`
	Name    string           `json:"name"`
	Node    discovery.NodeID `json:"node"`
	Issuer  []byte           `json:"issuer"`
	Pin     []byte           `json:"pin"`
}

// Encode writes the request as text.
func (r Request) Encode() string {
	return wrap(armourRequest, requestForm{Version: formVersion, Mesh: r.Mesh, Name: r.Name, Node: r.Node, Issuer: r.Issuer, Pin: r.Pin[:]})
}

// ParseRequest reads a request; white space around it is ignored. Errors match
// [ErrText].
func ParseRequest(text string) (Request, error) {
	var f requestForm
	if err := unwrap(armourRequest, text, &f); err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	if f.Version != formVersion {
		return Request{}, fmt.Errorf("read request: %w: version %d, this one knows %d", ErrText, f.Version, formVersion)
	}
	if len(f.Pin) != 32 {
		return Request{}, fmt.Errorf("read request: %w: a pin of %d bytes", ErrText, len(f.Pin))
	}
	r := Request{Mesh: f.Mesh, Name: f.Name, Node: f.Node, Issuer: f.Issuer, Pin: [32]byte(f.Pin)}
	if err := r.check(); err != nil {
		return Request{}, fmt.Errorf("read request: %w: %w", ErrText, err)
	}
	return r, nil
}

func (r Request) check() error {
	if err := pki.CheckLabel("mesh name", r.Mesh); err != nil {
		return err
	}
	if err := pki.CheckLabel("gateway name", r.Name); err != nil {
		return err
	}
	if len(r.Issuer) != ed25519.PublicKeySize {
		return fmt.Errorf("an issuing key of %d bytes", len(r.Issuer))
	}
	return checkNode(r.Node)
}

func checkNode(id discovery.NodeID) error {
	if b, err := hex.DecodeString(string(id)); err != nil || len(b) != 16 || hex.EncodeToString(b) != string(id) {
		return errors.New("the node is not 32 lower-case hexadecimal digits")
	}
	return nil
}

// Fingerprint is for people to compare: 32 hexadecimal digits in groups of
// four, over all that the request says.
func (r Request) Fingerprint() string {
	sum := sha256.Sum256([]byte(r.Encode()))
	digits := hex.EncodeToString(sum[:16])
	var groups []string
	for ; digits != ""; digits = digits[4:] {
		groups = append(groups, digits[:4])
	}
	return strings.Join(groups, " ")
}
