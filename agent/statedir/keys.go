package statedir

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"drawbridge/tunnel"
)

const (
	pemKey  = "PRIVATE KEY"
	pemCert = "CERTIFICATE"
	maxCert = 16 // certificates in one file
)

// IdentityKey is the node's identity.
func (d *Dir) IdentityKey() (ed25519.PrivateKey, error) { return d.key(fileIdentity) }

// SetIdentityKey keeps the node's identity.
func (d *Dir) SetIdentityKey(k ed25519.PrivateKey) error { return d.setKey(fileIdentity, k) }

// IssuerKey is the key of a gateway's issuing certificate.
func (d *Dir) IssuerKey() (ed25519.PrivateKey, error) { return d.key(fileIssuerKey) }

// SetIssuerKey keeps the key of a gateway's issuing certificate.
func (d *Dir) SetIssuerKey(k ed25519.PrivateKey) error { return d.setKey(fileIssuerKey, k) }

// RootKey is the key of the mesh root: on the first gateway, unless the
// operator took it away.
func (d *Dir) RootKey() (ed25519.PrivateKey, error) { return d.key(fileRootKey) }

// SetRootKey keeps the key of the mesh root.
func (d *Dir) SetRootKey(k ed25519.PrivateKey) error { return d.setKey(fileRootKey, k) }

// RemoveRootKey takes the key of the mesh root off this host.
func (d *Dir) RemoveRootKey() error { return d.remove(fileRootKey) }

// NextRootKey is the key of a second root that is trusted already and does not
// certify yet: a rotation's, before the switch.
func (d *Dir) NextRootKey() (ed25519.PrivateKey, error) { return d.key(fileNextRootKey) }

// SetNextRootKey keeps the key of a second root.
func (d *Dir) SetNextRootKey(k ed25519.PrivateKey) error { return d.setKey(fileNextRootKey, k) }

// RemoveNextRootKey takes the key of a second root off this host.
func (d *Dir) RemoveNextRootKey() error { return d.remove(fileNextRootKey) }

// OldRootKey is the key of a root that is trusted still and certifies no more:
// a rotation's, between the switch and the end.
func (d *Dir) OldRootKey() (ed25519.PrivateKey, error) { return d.key(fileOldRootKey) }

// SetOldRootKey keeps the key of the former root.
func (d *Dir) SetOldRootKey(k ed25519.PrivateKey) error { return d.setKey(fileOldRootKey, k) }

// RemoveOldRootKey takes the key of the former root off this host.
func (d *Dir) RemoveOldRootKey() error { return d.remove(fileOldRootKey) }

// WireGuardKey is the node's tunnel key.
func (d *Dir) WireGuardKey() (tunnel.PrivateKey, error) {
	b, err := d.read(fileWireGuard)
	if err != nil {
		return tunnel.PrivateKey{}, err
	}
	if len(b) != 45 || b[44] != '\n' {
		return tunnel.PrivateKey{}, d.damaged(fileWireGuard, errors.New("not one line of base64"))
	}
	k, err := tunnel.ParsePrivateKey(string(b[:44]))
	if err != nil {
		return tunnel.PrivateKey{}, d.damaged(fileWireGuard, err)
	}
	return k, nil
}

// SetWireGuardKey keeps the node's tunnel key, in the form of `wg genkey`.
func (d *Dir) SetWireGuardKey(k tunnel.PrivateKey) error {
	return d.write(fileWireGuard, []byte(k.Base64()+"\n"))
}

// Chain is the node's certificate followed by those above it, DER.
func (d *Dir) Chain() ([][]byte, error) { return d.certs(fileChain) }

// SetChain keeps the node's certificate and those above it, DER.
func (d *Dir) SetChain(chain [][]byte) error { return d.setCerts(fileChain, chain) }

// Roots are the pinned mesh roots, DER.
func (d *Dir) Roots() ([][]byte, error) { return d.certs(fileRoots) }

// SetRoots keeps the pinned mesh roots, DER.
func (d *Dir) SetRoots(roots [][]byte) error { return d.setCerts(fileRoots, roots) }

// Issuer is a gateway's issuing certificate, DER.
func (d *Dir) Issuer() ([]byte, error) { return d.cert(fileIssuer) }

// SetIssuer keeps a gateway's issuing certificate, DER.
func (d *Dir) SetIssuer(cert []byte) error { return d.setCerts(fileIssuer, [][]byte{cert}) }

// Renewer is a gateway's renewal certificate, DER. It belongs to the same key
// as the issuing certificate.
func (d *Dir) Renewer() ([]byte, error) { return d.cert(fileRenewer) }

// SetRenewer keeps a gateway's renewal certificate, DER.
func (d *Dir) SetRenewer(cert []byte) error { return d.setCerts(fileRenewer, [][]byte{cert}) }

// cert reads a file that holds one certificate.
func (d *Dir) cert(name string) ([]byte, error) {
	c, err := d.certs(name)
	if err != nil {
		return nil, err
	}
	if len(c) != 1 {
		return nil, d.damaged(name, fmt.Errorf("%d certificates, want one", len(c)))
	}
	return c[0], nil
}

func (d *Dir) key(name string) (ed25519.PrivateKey, error) {
	b, err := d.read(name)
	if err != nil {
		return nil, err
	}
	k, err := parseKey(b)
	if err != nil {
		return nil, d.damaged(name, err)
	}
	return k, nil
}

func (d *Dir) setKey(name string, k ed25519.PrivateKey) error {
	if len(k) != ed25519.PrivateKeySize {
		return fmt.Errorf("write %s: not an Ed25519 private key", name)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return d.write(name, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}))
}

func parseKey(b []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemKey || len(rest) != 0 {
		return nil, errors.New("not one PEM private key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ed, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T, want Ed25519", k)
	}
	return ed, nil
}

func (d *Dir) certs(name string) ([][]byte, error) {
	b, err := d.read(name)
	if err != nil {
		return nil, err
	}
	c, err := parseCerts(b)
	if err != nil {
		return nil, d.damaged(name, err)
	}
	return c, nil
}

func (d *Dir) setCerts(name string, certs [][]byte) error {
	var b []byte
	for _, der := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der})...)
	}
	if _, err := parseCerts(b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return d.write(name, b)
}

func parseCerts(b []byte) ([][]byte, error) {
	var certs [][]byte
	for len(b) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != pemCert || len(block.Bytes) == 0 {
			return nil, errors.New("not PEM certificates")
		}
		if len(certs) == maxCert {
			return nil, fmt.Errorf("more than %d certificates", maxCert)
		}
		certs, b = append(certs, block.Bytes), rest
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs, nil
}
