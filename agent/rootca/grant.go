package rootca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// Grant is the root's answer to a [Request]: a block of addresses, and what a
// gateway certifies with. It is public, and useless without the issuing key.
type Grant struct {
	Node    discovery.NodeID
	Name    string
	Block   netip.Prefix
	Issuer  []byte   // certificate, DER
	Renewer []byte   // certificate for the same key, DER
	Roots   [][]byte // trusted now, DER; the first one signed
}

type grantForm struct {
	Version int              `json:"version"`
	Node    discovery.NodeID `json:"node"`
	Name    string           `json:"name"`
	Block   netip.Prefix     `json:"block"`
	Issuer  []byte           `json:"issuer"`
	Renewer []byte           `json:"renewer"`
	Roots   [][]byte         `json:"roots"`
}

// Encode writes the grant as text.
func (g Grant) Encode() string {
	return wrap(armourGrant, grantForm{
		Version: formVersion, Node: g.Node, Name: g.Name, Block: g.Block, Issuer: g.Issuer, Renewer: g.Renewer, Roots: g.Roots,
	})
}

// ParseGrant reads a grant; white space around it is ignored. It checks that
// the grant agrees with itself: whether its root is the right one is for the
// reader, who has the pin. Errors match [ErrText].
func ParseGrant(text string) (Grant, error) {
	var f grantForm
	if err := unwrap(armourGrant, text, &f); err != nil {
		return Grant{}, fmt.Errorf("read grant: %w", err)
	}
	if f.Version != formVersion {
		return Grant{}, fmt.Errorf("read grant: %w: version %d, this one knows %d", ErrText, f.Version, formVersion)
	}
	g := Grant{Node: f.Node, Name: f.Name, Block: f.Block, Issuer: f.Issuer, Renewer: f.Renewer, Roots: f.Roots}
	if err := g.check(); err != nil {
		return Grant{}, fmt.Errorf("read grant: %w: %w", ErrText, err)
	}
	return g, nil
}

func (g Grant) check() error {
	if err := pki.CheckLabel("gateway name", g.Name); err != nil {
		return err
	}
	if err := checkNode(g.Node); err != nil {
		return err
	}
	if _, err := pki.NewRoots(g.Roots...); err != nil {
		return err
	}
	mesh, err := pki.MeshOf(g.Roots[0])
	if err != nil {
		return err
	}
	signedBy, err := pki.NewRoots(g.Roots[0])
	if err != nil {
		return err
	}
	for _, ca := range [][]byte{g.Issuer, g.Renewer} {
		if err := pki.CheckCA(ca, signedBy, mesh.Name); err != nil {
			return err
		}
		if pki.Gateway(ca) != g.Name {
			return fmt.Errorf("a certificate for %q, not for %q", clip(pki.Gateway(ca)), g.Name)
		}
	}
	if renews, err := pki.IsRenewer(g.Renewer); err != nil || !renews {
		return errors.New("the renewal certificate is another")
	}
	block, err := pki.BlockOf(g.Issuer)
	if err != nil {
		return err
	}
	if block != g.Block {
		return fmt.Errorf("the block %s, certified is %s", g.Block, block)
	}
	if !sameKey(g.Issuer, g.Renewer) {
		return errors.New("issuing and renewal certificate are for two keys")
	}
	return nil
}

func sameKey(a, b []byte) bool {
	ca, aerr := x509.ParseCertificate(a)
	cb, berr := x509.ParseCertificate(b)
	return aerr == nil && berr == nil && bytes.Equal(ca.RawSubjectPublicKeyInfo, cb.RawSubjectPublicKeyInfo)
}
