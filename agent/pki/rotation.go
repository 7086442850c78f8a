package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// Successor makes the certificate (DER) of the root that is to follow old, for
// a key of its own. It binds the same mesh. Its life begins with the old one's,
// so that what the old root certified can be certified again with the time it
// has (see [Recertify]), and verified at a moment of the past.
func Successor(old []byte, key ed25519.PrivateKey, now time.Time) ([]byte, error) {
	c, err := parseCert(old)
	if err != nil {
		return nil, fmt.Errorf("make next root: %w", err)
	}
	m, err := meshOf(c)
	if err != nil {
		return nil, fmt.Errorf("make next root: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("make next root: private key of %d bytes", len(key))
	}
	return selfSign(m, key, c.NotBefore, now)
}

// Recertify signs an issuer's or renewer's certificate (DER) again, with
// another root: the same subject, key, constraints and time. The caller has
// checked it, see [CheckCA]. A certificate that has ended may be signed again:
// the originals under it are still extended by renewals.
func Recertify(root *Signer, ca []byte, now time.Time) ([]byte, error) {
	der, err := recertify(root, ca, now)
	if err != nil {
		return nil, fmt.Errorf("certify again: %w", err)
	}
	return der, nil
}

func recertify(root *Signer, ca []byte, now time.Time) ([]byte, error) {
	c, err := parseCert(ca)
	if err != nil {
		return nil, err
	}
	of, err := meshOf(root.cert)
	if err != nil {
		return nil, fmt.Errorf("not a mesh root: %w", err)
	}
	if err := checkAuthority(c, root.cert, of.Name); err != nil {
		return nil, fmt.Errorf("%q: %w", clip(c.Subject.CommonName), err)
	}
	if _, _, err := window(root.cert, now, time.Hour); err != nil {
		return nil, err
	}
	m, ips, err := constraints(c)
	if err != nil {
		return nil, err
	}
	t := authority(c.Subject.CommonName, later(c.NotBefore, root.cert.NotBefore), earlier(c.NotAfter, root.cert.NotAfter), ips, m)
	if !t.NotBefore.Before(t.NotAfter) {
		return nil, fmt.Errorf("%q ended %s, before this root began", clip(c.Subject.CommonName), stamp(c.NotAfter))
	}
	t.MaxPathLenZero = true
	t.SubjectKeyId = c.SubjectKeyId // what the certificates below name
	if marked, _ := hasMark(c); marked {
		t.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes}}
	}
	return sign(t, root.cert, c.PublicKey.(ed25519.PublicKey), root.key)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// twin reports whether b is a again under another root: the same kind,
// subject, key and addresses.
func twin(a, b *x509.Certificate) bool {
	if !slices.Equal(a.RawSubject, b.RawSubject) || !slices.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) {
		return false
	}
	am, aips, aerr := constraints(a)
	bm, bips, berr := constraints(b)
	amark, amalformed := hasMark(a)
	bmark, bmalformed := hasMark(b)
	return aerr == nil && berr == nil && amalformed == nil && bmalformed == nil &&
		am == bm && aips == bips && amark == bmark
}

// covers reports whether the life of a CA certificate contains another's.
func covers(ca, below *x509.Certificate) bool {
	return !below.NotBefore.Before(ca.NotBefore) && !below.NotAfter.After(ca.NotAfter)
}
