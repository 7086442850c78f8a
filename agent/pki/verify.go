package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// What Verify and the signers find wrong.
var (
	// ErrExpired comes with a full identity: all is right but the time.
	ErrExpired = errors.New("certificate expired")
	// ErrNotYetValid comes with a full identity: the certificate starts later.
	// Usually the reader's clock is behind.
	ErrNotYetValid = errors.New("certificate not valid yet")
	// ErrIssuerExpired: the certificate that should sign has ended.
	ErrIssuerExpired = errors.New("issuing certificate expired")
	// ErrUntrusted: no chain to a pinned root.
	ErrUntrusted = errors.New("certificate not issued by this mesh")
	// ErrClaims: a chain, but saying what its issuer may not say, or not in
	// our form.
	ErrClaims = errors.New("certificate claims refused")
)

// Bounds of what strangers send.
const (
	maxChain = 6       // certificates
	maxCert  = 4 << 10 // bytes; ours have about 600
)

// Verify checks a chain and returns who the node is and its key. A chain is
//
//	an original  node, its issuer
//	a renewal    node, renewer, the original that it extends, the original's issuer
//
// and what follows, such as roots, is ignored (see [Alternatives]). A renewal
// must say what its original says; only its time is its own. The original is
// judged at a moment of its own life, which may be long over.
//
// On [ErrExpired] and [ErrNotYetValid] identity and key are returned as well:
// everything else was right. On any other error they are zero.
func Verify(chain [][]byte, roots *Roots, mesh string, now time.Time) (discovery.Identity, ed25519.PublicKey, error) {
	c, leaf, err := roots.judge(chain, mesh, now)
	if err != nil {
		return discovery.Identity{}, nil, err
	}
	id := discovery.Identity{
		ID: NodeID(c.Identity), Name: c.Name, Site: c.Site, Role: c.Role,
		Addr: c.Addr, WireGuard: c.WireGuard, NotAfter: leaf.NotAfter, Subnets: c.Subnets,
	}
	switch {
	case now.Before(leaf.NotBefore):
		err = fmt.Errorf("%w: %s starts %s, the clock says %s", ErrNotYetValid, id.Name, stamp(leaf.NotBefore), stamp(now))
	case now.After(leaf.NotAfter):
		err = fmt.Errorf("%w: %s ended %s, the clock says %s", ErrExpired, id.Name, stamp(leaf.NotAfter), stamp(now))
	}
	return id, c.Identity, err
}

// judge checks all but the time of the node certificate.
func (r *Roots) judge(chain [][]byte, mesh string, now time.Time) (Claims, *x509.Certificate, error) {
	if len(chain) < 2 || len(chain) > maxChain || r == nil {
		return Claims{}, nil, fmt.Errorf("%w: %d certificates, want those of node and issuer, and at most %d", ErrUntrusted, len(chain), maxChain)
	}
	leaf, err := parseCert(chain[0])
	if err != nil {
		return Claims{}, nil, fmt.Errorf("%w: node certificate: %w", ErrUntrusted, err)
	}
	above, err := parseCert(chain[1])
	if err != nil {
		return Claims{}, nil, fmt.Errorf("%w: issuer: %w", ErrUntrusted, err)
	}
	renews, err := hasMark(above)
	if err != nil {
		return Claims{}, nil, fmt.Errorf("%w: issuer: %w", ErrUntrusted, err)
	}
	if !renews {
		c, err := r.original(leaf, above, mesh, now)
		return c, leaf, err
	}
	c, err := r.renewal(leaf, above, chain[2:], mesh, now)
	return c, leaf, err
}

// original checks a node certificate under its issuer.
func (r *Roots) original(leaf, issuer *x509.Certificate, mesh string, now time.Time) (Claims, error) {
	root, err := r.verify(leaf, issuer, now)
	if err != nil {
		return Claims{}, err
	}
	c, err := checkOriginal(leaf, issuer, root, mesh)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return c, nil
}

// verify checks signatures, name constraints and uses, at the moment of the
// leaf's life that is nearest to now. The lives above must contain the leaf's.
// It returns the root.
func (r *Roots) verify(leaf, issuer *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	at := now
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if leaf.NotBefore.Before(issuer.NotBefore) || leaf.NotAfter.After(issuer.NotAfter) {
		return nil, fmt.Errorf("%w: it outlives its issuer", ErrClaims)
	}
	why := errors.New("its issuer was signed by another root")
	for _, root := range r.certs {
		if issuer.CheckSignatureFrom(root) != nil {
			continue
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root)
		between.AddCert(issuer)
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err == nil {
			return root, nil
		}
		why = err
	}
	return nil, fmt.Errorf("%w: %w", ErrUntrusted, why)
}

// checkOriginal reads the claims of an original and checks them against what
// its issuer may say.
func checkOriginal(leaf, issuer, root *x509.Certificate, mesh string) (Claims, error) {
	of, err := meshOf(root)
	if err != nil {
		return Claims{}, err
	}
	m, block, err := issuerOf(issuer)
	if err != nil {
		return Claims{}, err
	}
	if of.Name != mesh || m.Name != mesh || m.Domain != of.Domain {
		return Claims{}, fmt.Errorf("of the mesh %q, not %q", clip(m.Name), mesh)
	}
	if err := checkBlock(of.Prefix, block); err != nil {
		return Claims{}, err
	}
	c, err := readClaims(leaf, of)
	if err != nil {
		return Claims{}, err
	}
	return c, c.check(block)
}

// readClaims reads the claims of a node certificate in our form.
func readClaims(leaf *x509.Certificate, m Mesh) (Claims, error) {
	if err := shape(leaf); err != nil {
		return Claims{}, err
	}
	c, err := claimsOf(leaf, m.Name)
	if err != nil {
		return Claims{}, err
	}
	if leaf.DNSNames[0] != c.Name+"."+m.Domain {
		return Claims{}, fmt.Errorf("DNS name %q, want %s.%s", clip(leaf.DNSNames[0]), clip(c.Name), m.Domain)
	}
	return c, nil
}

// shape checks that a node certificate says the things that ours say, once
// each, and nothing more.
func shape(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA || !leaf.BasicConstraintsValid:
		return errors.New("a CA certificate is not a node's")
	case len(leaf.URIs) != 1 || len(leaf.IPAddresses) != 1 || len(leaf.DNSNames) != 1 || len(leaf.EmailAddresses) != 0:
		return fmt.Errorf("%d URIs, %d addresses, %d DNS names; want one of each", len(leaf.URIs), len(leaf.IPAddresses), len(leaf.DNSNames))
	case len(leaf.ExtKeyUsage) != 2 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || leaf.ExtKeyUsage[1] != x509.ExtKeyUsageServerAuth || len(leaf.UnknownExtKeyUsage) != 0:
		return errors.New("want the uses client and server authentication")
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature:
		return errors.New("want the key usage digital signature")
	case leaf.NotAfter.Sub(leaf.NotBefore) > MaxNodeLife+Backdate:
		// A revocation is remembered for a while only, see NoticeLife.
		return fmt.Errorf("it lives longer than %s", MaxNodeLife)
	}
	return nil
}

// claimsOf reads the claims; shape was checked.
func claimsOf(leaf *x509.Certificate, mesh string) (Claims, error) {
	uri := leaf.URIs[0].String()
	site, role, name, err := parseURI(uri, mesh)
	if err != nil {
		return Claims{}, err
	}
	addr, ok := netip.AddrFromSlice(leaf.IPAddresses[0])
	if !ok || !addr.Is4() {
		return Claims{}, errors.New("the address is not IPv4")
	}
	c := Claims{Name: name, Site: site, Role: role, Addr: addr, Identity: leaf.PublicKey.(ed25519.PublicKey)}
	found := 0
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidWireGuard) {
			continue
		}
		var key []byte
		if rest, err := asn1.Unmarshal(e.Value, &key); err != nil || len(rest) != 0 || len(key) != 32 {
			return Claims{}, errors.New("malformed wireguard key")
		}
		c.WireGuard = [32]byte(key)
		found++
	}
	if found != 1 {
		return Claims{}, fmt.Errorf("%d wireguard keys, want one", found)
	}
	c.Subnets, err = subnetsOf(leaf)
	return c, err
}

// parseCert parses one certificate and holds it to our only algorithm.
func parseCert(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCert {
		return nil, fmt.Errorf("certificate of %d bytes, at most %d", len(der), maxCert)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if _, ok := c.PublicKey.(ed25519.PublicKey); !ok || c.SignatureAlgorithm != x509.PureEd25519 {
		return nil, errors.New("not an Ed25519 certificate")
	}
	return c, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
