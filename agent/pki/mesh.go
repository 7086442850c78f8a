package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
)

// meshOf reads what a root binds, and checks that it is a root of ours.
func meshOf(root *x509.Certificate) (Mesh, error) {
	m, prefix, err := constraints(root)
	if err != nil {
		return Mesh{}, err
	}
	m.Prefix = prefix
	if err := m.check(); err != nil {
		return Mesh{}, err
	}
	if root.MaxPathLen != 1 {
		return Mesh{}, errors.New("not a mesh root: path length is not 1")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return Mesh{}, fmt.Errorf("not a mesh root: not signed by itself: %w", err)
	}
	return m, nil
}

// issuerOf reads mesh and block of an issuing certificate.
func issuerOf(c *x509.Certificate) (Mesh, netip.Prefix, error) {
	m, block, err := constraints(c)
	if err != nil {
		return Mesh{}, block, err
	}
	if c.MaxPathLen != 0 || !c.MaxPathLenZero {
		return Mesh{}, block, errors.New("not an issuing certificate: path length is not 0")
	}
	switch marked, err := hasMark(c); {
	case err != nil:
		return Mesh{}, block, err
	case marked:
		return Mesh{}, block, errors.New("not an issuing certificate: it only renews")
	}
	return m, block, nil
}

// constraints reads the name constraints, which every CA of ours has in the
// same form. Mesh.Prefix is left empty.
func constraints(c *x509.Certificate) (Mesh, netip.Prefix, error) {
	if !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return Mesh{}, netip.Prefix{}, errors.New("not a CA certificate")
	}
	if !c.PermittedDNSDomainsCritical || len(c.PermittedIPRanges) != 1 || len(c.PermittedDNSDomains) != 1 || len(c.PermittedURIDomains) != 1 {
		return Mesh{}, netip.Prefix{}, errors.New("want one permitted range of addresses, DNS domain and URI domain, critical")
	}
	addr, ok := netip.AddrFromSlice(c.PermittedIPRanges[0].IP)
	ones, bits := c.PermittedIPRanges[0].Mask.Size()
	if !ok || !addr.Is4() || bits != 32 {
		return Mesh{}, netip.Prefix{}, errors.New("the permitted addresses are not an IPv4 prefix")
	}
	return Mesh{Name: c.PermittedURIDomains[0], Domain: c.PermittedDNSDomains[0]}, netip.PrefixFrom(addr, ones), nil
}

// MeshOf reads what a root certificate (DER) binds.
func MeshOf(root []byte) (Mesh, error) {
	c, err := parseCert(root)
	if err != nil {
		return Mesh{}, fmt.Errorf("read root: %w", err)
	}
	return meshOf(c)
}

// BlockOf reads the address block of an issuing certificate (DER).
func BlockOf(issuer []byte) (netip.Prefix, error) {
	c, err := parseCert(issuer)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read issuing certificate: %w", err)
	}
	_, block, err := issuerOf(c)
	return block, err
}

// Pin is the SHA-256 of a root's public key (its SubjectPublicKeyInfo, as in
// RFC 7469, section 2.4).
func Pin(root []byte) ([32]byte, error) {
	c, err := parseCert(root)
	if err != nil {
		return [32]byte{}, fmt.Errorf("read root: %w", err)
	}
	return sha256.Sum256(c.RawSubjectPublicKeyInfo), nil
}

// PinnedRoot finds the mesh root with the pinned key among certificates that a
// stranger presents.
func PinnedRoot(chain [][]byte, pin [32]byte) ([]byte, error) {
	if len(chain) > maxChain {
		return nil, fmt.Errorf("%w: %d certificates", ErrUntrusted, len(chain))
	}
	for _, der := range chain {
		got, err := Pin(der)
		if err != nil || subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
			continue
		}
		if _, err := MeshOf(der); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		return der, nil
	}
	return nil, fmt.Errorf("%w: no root with the pin %s", ErrUntrusted, hex.EncodeToString(pin[:8]))
}
