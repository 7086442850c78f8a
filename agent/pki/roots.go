package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
)

// maxRoots bounds the roots that are trusted at a time; a rotation needs two.
const maxRoots = 4

// Roots are the trusted mesh roots.
type Roots struct {
	certs []*x509.Certificate
}

// NewRoots pins root certificates, DER; the first is the current one. Each
// must be a mesh root made by [NewRoot] or [Successor]. There are two while
// the root is being replaced.
func NewRoots(ders ...[]byte) (*Roots, error) {
	r := &Roots{}
	if len(ders) == 0 || len(ders) > maxRoots {
		return nil, fmt.Errorf("pin root: %d given, want 1 to %d", len(ders), maxRoots)
	}
	for _, der := range ders {
		c, err := parseCert(der)
		if err != nil {
			return nil, fmt.Errorf("pin root: %w", err)
		}
		if _, err := meshOf(c); err != nil {
			return nil, fmt.Errorf("pin root: %w", err)
		}
		r.certs = append(r.certs, c)
	}
	return r, nil
}

// Certs are the roots, DER, the current one first.
func (r *Roots) Certs() [][]byte {
	var ders [][]byte
	for _, c := range r.certs {
		ders = append(ders, c.Raw)
	}
	return ders
}

// CheckCA checks that a CA certificate (DER) is an issuer's or a renewer's of
// the mesh and signed by one of the roots. Its time is the caller's business.
func CheckCA(ca []byte, roots *Roots, mesh string) error {
	c, err := parseCert(ca)
	if err != nil {
		return fmt.Errorf("%w: CA certificate: %w", ErrUntrusted, err)
	}
	if roots == nil {
		return fmt.Errorf("%w: no roots", ErrUntrusted)
	}
	return roots.checkCA(c, mesh)
}

func (r *Roots) checkCA(ca *x509.Certificate, mesh string) error {
	for _, root := range r.certs {
		if ca.CheckSignatureFrom(root) != nil {
			continue
		}
		if err := checkAuthority(ca, root, mesh); err != nil {
			return fmt.Errorf("%w: CA certificate %q: %w", ErrClaims, clip(ca.Subject.CommonName), err)
		}
		return nil
	}
	return fmt.Errorf("%w: CA certificate %q: signed by none of the trusted roots", ErrUntrusted, clip(ca.Subject.CommonName))
}

// checkAuthority checks what an issuer or renewer may do against its root.
func checkAuthority(ca, root *x509.Certificate, mesh string) error {
	of, err := meshOf(root)
	if err != nil {
		return err
	}
	renews, err := hasMark(ca)
	if err != nil {
		return err
	}
	if renews {
		return checkRenewer(ca, of, mesh)
	}
	m, block, err := issuerOf(ca)
	if err != nil {
		return err
	}
	if of.Name != mesh || m.Name != mesh || m.Domain != of.Domain {
		return errors.New("of another mesh")
	}
	return checkBlock(of.Prefix, block)
}
