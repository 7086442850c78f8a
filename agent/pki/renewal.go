package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"drawbridge/discovery"
)

// oidRenewer marks a renewer: an extension with an ASN.1 NULL, not critical,
// so that any tool can verify what a renewer signed. It is the number after
// oidWireGuard.
var oidRenewer = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 27340, 30769, 41601, 18723, 42369, 15168815, 14690165}

// NewRenewer certifies a gateway's issuing key a second time: to extend what
// any gateway certified, within the whole mesh prefix. It certifies nothing by
// itself, see [Verify]. It returns the certificate, DER.
func NewRenewer(root *Signer, pub ed25519.PublicKey, gateway string, now time.Time) ([]byte, error) {
	m, err := meshOf(root.cert)
	if err != nil {
		return nil, fmt.Errorf("make renewal certificate: not a mesh root: %w", err)
	}
	from, to, err := window(root.cert, now, IssuerLife)
	if err != nil {
		return nil, err
	}
	t := authority(m.Name+wordRenewer+gateway, from, to, m.Prefix, m)
	t.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes}}
	der, err := signGateway(root, t, pub, gateway)
	if err != nil {
		return nil, fmt.Errorf("make renewal certificate: %w", err)
	}
	return der, nil
}

// IsRenewer reports whether a certificate (DER) is marked as a renewer's.
func IsRenewer(cert []byte) (bool, error) {
	c, err := parseCert(cert)
	if err != nil {
		return false, fmt.Errorf("read certificate: %w", err)
	}
	return hasMark(c)
}

func hasMark(c *x509.Certificate) (bool, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidRenewer) {
			continue
		}
		if e.Critical || !bytes.Equal(e.Value, asn1.NullBytes) {
			return false, errors.New("malformed mark of a renewal certificate")
		}
		return true, nil
	}
	return false, nil
}

// checkRenewer checks a renewer against what its root binds.
func checkRenewer(c *x509.Certificate, of Mesh, mesh string) error {
	m, all, err := constraints(c)
	switch {
	case err != nil:
		return err
	case c.MaxPathLen != 0 || !c.MaxPathLenZero:
		return errors.New("not a renewal certificate: path length is not 0")
	case of.Name != mesh || m.Name != mesh || m.Domain != of.Domain:
		return fmt.Errorf("of the mesh %q, not %q", clip(m.Name), mesh)
	case all != of.Prefix:
		return fmt.Errorf("a renewal certificate for %s, not the mesh prefix %s", all, of.Prefix)
	}
	return nil
}

// renewal checks a node certificate under a renewer, with what it extends:
// below are the original, its issuer, and perhaps roots.
func (r *Roots) renewal(leaf, renewer *x509.Certificate, below [][]byte, mesh string, now time.Time) (Claims, error) {
	if len(below) < 2 {
		return Claims{}, fmt.Errorf("%w: a renewal without its original", ErrUntrusted)
	}
	first, err := parseCert(below[0])
	if err != nil {
		return Claims{}, fmt.Errorf("%w: original: %w", ErrUntrusted, err)
	}
	issuer, err := parseCert(below[1])
	if err != nil {
		return Claims{}, fmt.Errorf("%w: issuer of the original: %w", ErrUntrusted, err)
	}
	// An issuer that only renews is refused here: no renewals of renewals.
	was, err := r.original(first, issuer, mesh, now)
	if err != nil {
		return Claims{}, fmt.Errorf("original: %w", err)
	}
	root, err := r.verify(leaf, renewer, now)
	if err != nil {
		return Claims{}, fmt.Errorf("renewal: %w", err)
	}
	is, err := checkRenewal(leaf, renewer, root, mesh)
	if err == nil {
		err = is.extends(was)
	}
	if err != nil {
		return Claims{}, fmt.Errorf("%w: renewal: %w", ErrClaims, err)
	}
	return is, nil
}

// checkRenewal reads the claims of a certificate under a renewer.
func checkRenewal(leaf, renewer, root *x509.Certificate, mesh string) (Claims, error) {
	of, err := meshOf(root)
	if err != nil {
		return Claims{}, err
	}
	if err := checkRenewer(renewer, of, mesh); err != nil {
		return Claims{}, err
	}
	return readClaims(leaf, of)
}

// extends checks that a renewal says what its original says.
func (c Claims) extends(was Claims) error {
	switch {
	case !c.Identity.Equal(was.Identity):
		return errors.New("another identity key than the original's")
	case c.WireGuard != was.WireGuard:
		return errors.New("another WireGuard key than the original's")
	case c.Name != was.Name:
		return fmt.Errorf("the name %q, the original has %q", clip(c.Name), was.Name)
	case c.Site != was.Site:
		return fmt.Errorf("the site %q, the original has %q", clip(c.Site), was.Site)
	case c.Role != was.Role:
		return fmt.Errorf("the role %q, the original has %q", clip(string(c.Role)), was.Role)
	case c.Addr != was.Addr:
		return fmt.Errorf("the address %s, the original has %s", c.Addr, was.Addr)
	case !slices.Equal(c.Subnets, was.Subnets):
		return fmt.Errorf("the subnets %v, the original has %v", c.Subnets, was.Subnets)
	}
	return was.renewable()
}

// renewable: a gateway certifies itself with its own issuer, always.
func (c Claims) renewable() error {
	if c.Role != discovery.RoleServer {
		return errors.New("a gateway's certificate is not renewed by others")
	}
	return nil
}

// RenewNode extends a node's present chain, an original or a renewal, which
// the caller has verified: the new certificate says what the original says, for
// life from now (0: NodeLife). It returns the new chain: node, renewer,
// original, the original's issuer.
func RenewNode(renewer *Signer, chain [][]byte, life time.Duration, now time.Time) ([][]byte, error) {
	der, first, err := renewNode(renewer, chain, life, now)
	if err != nil {
		return nil, fmt.Errorf("renew node certificate: %w", err)
	}
	return append([][]byte{der, renewer.Cert()}, first...), nil
}

func renewNode(s *Signer, chain [][]byte, life time.Duration, now time.Time) (der []byte, first [][]byte, err error) {
	marked, err := hasMark(s.cert)
	if err != nil {
		return nil, nil, err
	}
	if !marked {
		return nil, nil, fmt.Errorf("%q does not renew: it issues", s)
	}
	if first = Original(chain); first == nil {
		return nil, nil, fmt.Errorf("%w: the chain has no original", ErrUntrusted)
	}
	leaf, err := parseCert(first[0])
	if err != nil {
		return nil, nil, fmt.Errorf("original: %w", err)
	}
	issuer, err := parseCert(first[1])
	if err != nil {
		return nil, nil, fmt.Errorf("issuer of the original: %w", err)
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		return nil, nil, fmt.Errorf("%w: original: %w", ErrUntrusted, err)
	}
	m, block, err := issuerOf(issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: issuer of the original: %w", ErrClaims, err)
	}
	of, all, err := constraints(s.cert)
	if err != nil {
		return nil, nil, err
	}
	if m != of || checkBlock(all, block) != nil {
		return nil, nil, fmt.Errorf("%w: the original is of another mesh", ErrClaims)
	}
	c, err := readClaims(leaf, m)
	if err == nil {
		err = c.check(block)
	}
	if err == nil {
		err = c.renewable()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	c.Life = life
	der, err = signNode(s, m, c, now)
	return der, first, err
}

// Original is the part of a chain that a renewal extends: the original and its
// issuer. Of an original's own chain these are the first two. It is nil when
// the chain has neither form. It verifies nothing.
func Original(chain [][]byte) [][]byte {
	if len(chain) < 2 || len(chain) > maxChain {
		return nil
	}
	renews, err := IsRenewer(chain[1])
	switch {
	case err != nil:
		return nil
	case !renews:
		return chain[:2:2]
	case len(chain) < 4:
		return nil
	}
	return chain[2:4:4]
}
