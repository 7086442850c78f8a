package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// Lives of certificates. Nodes renew at half life.
const (
	RootLife   = 10 * 365 * 24 * time.Hour
	IssuerLife = 365 * 24 * time.Hour
	NodeLife   = 30 * 24 * time.Hour
	// MinNodeLife and MaxNodeLife bound the life that a node certificate may
	// be given, and that a verifier believes.
	MinNodeLife = time.Minute
	MaxNodeLife = 90 * 24 * time.Hour
	// Backdate is how far not-before lies before the time of issue.
	Backdate = 5 * time.Minute
)

// Mesh is what a root certificate binds.
type Mesh struct {
	Name   string       // a lower-case DNS label
	Domain string       // DNS, lower case, without the last dot
	Prefix netip.Prefix // IPv4, masked, see CheckPrefix
}

// Signer is a CA certificate with its key: the root, or a gateway's issuer.
type Signer struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

// NewSigner joins a CA certificate (DER) with its key.
func NewSigner(cert []byte, key ed25519.PrivateKey) (*Signer, error) {
	c, err := parseCert(cert)
	if err != nil {
		return nil, fmt.Errorf("load issuing certificate: %w", err)
	}
	if !c.IsCA || len(key) != ed25519.PrivateKeySize || !c.PublicKey.(ed25519.PublicKey).Equal(key.Public()) {
		return nil, errors.New("load issuing certificate: key and certificate do not belong together")
	}
	return &Signer{cert: c, key: key}, nil
}

// String names the signer and hides the key.
func (s *Signer) String() string { return s.cert.Subject.CommonName }

// Format is String, for every verb.
func (s *Signer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s *Signer) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Cert is the signer's certificate, DER.
func (s *Signer) Cert() []byte { return s.cert.Raw }

// NotAfter is the end of the signer's certificate.
func (s *Signer) NotAfter() time.Time { return s.cert.NotAfter }

// NewRoot makes the root of a new mesh: its certificate (DER) and key.
func NewRoot(m Mesh, now time.Time) ([]byte, ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make root key: %w", err)
	}
	der, err := selfSign(m, key, now.Add(-Backdate), now)
	if err != nil {
		return nil, nil, err
	}
	return der, key, nil
}

// selfSign makes a root certificate that ends [RootLife] after now.
func selfSign(m Mesh, key ed25519.PrivateKey, from, now time.Time) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	t := authority(m.Name+wordRoot, from, now.Add(RootLife), m.Prefix, m)
	t.MaxPathLen = 1
	der, err := sign(t, t, key.Public().(ed25519.PublicKey), key)
	if err != nil {
		return nil, fmt.Errorf("make root certificate: %w", err)
	}
	return der, nil
}

// NewIssuer certifies a gateway's issuing key for one block of the mesh
// prefix. It returns the certificate, DER.
func NewIssuer(root *Signer, pub ed25519.PublicKey, gateway string, block netip.Prefix, now time.Time) ([]byte, error) {
	m, err := meshOf(root.cert)
	if err != nil {
		return nil, fmt.Errorf("make issuing certificate: not a mesh root: %w", err)
	}
	if err := checkBlock(m.Prefix, block); err != nil {
		return nil, err
	}
	from, to, err := window(root.cert, now, IssuerLife)
	if err != nil {
		return nil, err
	}
	t := authority(m.Name+wordIssuer+gateway, from, to, block, m)
	der, err := signGateway(root, t, pub, gateway)
	if err != nil {
		return nil, fmt.Errorf("make issuing certificate: %w", err)
	}
	return der, nil
}

// signGateway signs the template of a gateway's CA certificate.
func signGateway(root *Signer, t *x509.Certificate, pub ed25519.PublicKey, gateway string) ([]byte, error) {
	if err := CheckLabel("gateway name", gateway); err != nil {
		return nil, err
	}
	if err := checkPublic(pub); err != nil {
		return nil, err
	}
	t.MaxPathLenZero = true
	return sign(t, root.cert, pub, root.key)
}

// The common names of CA certificates: the mesh, one of these and, but for the
// root, the gateway.
const (
	wordRoot    = " mesh root"
	wordIssuer  = " mesh issuer "
	wordRenewer = " mesh renewer "
)

// authority is the template of a CA certificate with its name constraints
// (RFC 5280, section 4.2.1.10). They are critical, and IPv6 is not permitted.
func authority(name string, from, to time.Time, ips netip.Prefix, m Mesh) *x509.Certificate {
	return &x509.Certificate{
		Subject:                     pkix.Name{CommonName: name},
		NotBefore:                   from,
		NotAfter:                    to,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		PermittedDNSDomainsCritical: true,
		PermittedIPRanges:           []*net.IPNet{{IP: ips.Addr().AsSlice(), Mask: net.CIDRMask(ips.Bits(), 32)}},
		PermittedDNSDomains:         []string{m.Domain},
		PermittedURIDomains:         []string{m.Name},
	}
}

// window is the life of a new certificate, within the life of the one above.
func window(above *x509.Certificate, now time.Time, life time.Duration) (from, to time.Time, err error) {
	from, to = now.Add(-Backdate), now.Add(life)
	if from.Before(above.NotBefore) {
		from = above.NotBefore
	}
	if to.After(above.NotAfter) {
		to = above.NotAfter
	}
	if !now.Before(above.NotAfter) {
		return from, to, fmt.Errorf("%w: %q ended %s", ErrIssuerExpired, above.Subject.CommonName, above.NotAfter.Format(time.RFC3339))
	}
	if now.Before(above.NotBefore) {
		return from, to, fmt.Errorf("%w: %q starts %s; check this host's clock", ErrNotYetValid, above.Subject.CommonName, above.NotBefore.Format(time.RFC3339))
	}
	return from, to, nil
}

// sign fills in the serial number and creates the certificate.
func sign(t, above *x509.Certificate, pub ed25519.PublicKey, key ed25519.PrivateKey) ([]byte, error) {
	// 159 random bits: RFC 5280 wants at most 20 octets, positive.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	t.SignatureAlgorithm = x509.PureEd25519
	return x509.CreateCertificate(rand.Reader, t, above, pub, key)
}

func checkPublic(pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("identity key: %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	return nil
}
