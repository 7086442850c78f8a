package enroll

import (
	"crypto/ed25519"
	"fmt"
	"io"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// keys are what a host proves and is certified for.
type keys struct {
	identity  ed25519.PrivateKey
	wireGuard tunnel.PrivateKey
	issuer    ed25519.PrivateKey // gateways
}

// Format hides the keys, for every verb.
func (keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(redacted)") }

// makeKeys makes what a new host needs.
func makeKeys(role discovery.Role) (keys, error) {
	var k keys
	var err error
	if _, k.identity, err = ed25519.GenerateKey(nil); err != nil {
		return k, fmt.Errorf("make identity key: %w", err)
	}
	if k.wireGuard, err = tunnel.NewPrivateKey(); err != nil {
		return k, err
	}
	if role == discovery.RoleGateway {
		if _, k.issuer, err = ed25519.GenerateKey(nil); err != nil {
			return k, fmt.Errorf("make issuing key: %w", err)
		}
	}
	return k, nil
}

// readKeys reads them from a state directory.
func readKeys(d *statedir.Dir, role discovery.Role) (keys, error) {
	var k keys
	var err error
	if k.identity, err = d.IdentityKey(); err == nil {
		if k.wireGuard, err = d.WireGuardKey(); err == nil && role == discovery.RoleGateway {
			k.issuer, err = d.IssuerKey()
		}
	}
	return k, err
}

// keep puts keys into the state directory.
func (k keys) keep(d *statedir.Dir) error {
	err := d.SetIdentityKey(k.identity)
	if err == nil {
		err = d.SetWireGuardKey(k.wireGuard)
	}
	if err == nil && k.issuer != nil {
		err = d.SetIssuerKey(k.issuer)
	}
	return err
}

// public are the halves that a question carries; issuer is nil for servers.
func (k keys) public() (identity, wireGuard, issuer []byte, err error) {
	wg, err := k.wireGuard.Public()
	if err != nil {
		return nil, nil, nil, err
	}
	if k.issuer != nil {
		issuer = k.issuer.Public().(ed25519.PublicKey)
	}
	return k.identity.Public().(ed25519.PublicKey), wg[:], issuer, nil
}
