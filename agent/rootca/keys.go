package rootca

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// ErrNoRootKey means that the directory does not hold the key of the root. It
// comes with [fs.ErrNotExist].
var ErrNoRootKey = errors.New("the root key is not here")

// vault is what a directory knows of roots.
type vault struct {
	dir   *statedir.Dir
	mesh  pki.Mesh
	roots [][]byte // trusted, the current one first
	// The keys that are here; nil: not here.
	key, next, old ed25519.PrivateKey
}

// Format names the directory, for every verb, and hides the keys.
func (v vault) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.dir.String()) }

func open(dir *statedir.Dir) (vault, error) {
	v := vault{dir: dir}
	var err error
	if v.roots, err = dir.Roots(); err != nil {
		return vault{}, err
	}
	if v.mesh, err = pki.MeshOf(v.roots[0]); err != nil {
		return vault{}, fmt.Errorf("read roots of %s: %w", dir, err)
	}
	for _, k := range []struct {
		read func() (ed25519.PrivateKey, error)
		to   *ed25519.PrivateKey
	}{{dir.RootKey, &v.key}, {dir.NextRootKey, &v.next}, {dir.OldRootKey, &v.old}} {
		if *k.to, err = k.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return vault{}, err
		}
	}
	return v, nil
}

// belongs reports whether a key is that of a root certificate.
func belongs(key ed25519.PrivateKey, cert []byte) bool {
	c, err := x509.ParseCertificate(cert)
	if err != nil || key == nil {
		return false
	}
	pub, ok := c.PublicKey.(ed25519.PublicKey)
	return ok && pub.Equal(key.Public())
}

// keyOf finds the key of a root among those here; in the middle of a switch
// that a crash interrupted it may be in any of the files.
func (v vault) keyOf(cert []byte) ed25519.PrivateKey {
	for _, key := range []ed25519.PrivateKey{v.key, v.next, v.old} {
		if belongs(key, cert) {
			return key
		}
	}
	return nil
}

// signer is a trusted root with its key.
func (v vault) signer(cert []byte) (*pki.Signer, error) {
	key := v.keyOf(cert)
	if key == nil {
		return nil, fmt.Errorf("%w: %s does not hold the key of the root %s (%w); run it where that key is", ErrNoRootKey, v.dir, pinText(cert), fs.ErrNotExist)
	}
	return pki.NewSigner(cert, key)
}

// Signer is the current root of a directory with its key. Without the key the
// error matches [ErrNoRootKey] and [fs.ErrNotExist].
func Signer(dir *statedir.Dir) (*pki.Signer, error) {
	v, err := open(dir)
	if err != nil {
		return nil, err
	}
	return v.signer(v.roots[0])
}

// pinText is the beginning of a root's pin, for people.
func pinText(root []byte) string {
	pin, err := pki.Pin(root)
	if err != nil {
		return "?"
	}
	return hex.EncodeToString(pin[:8])
}

// record writes an event about the root. It comes before the act: an act that
// was recorded and did not happen harms nobody.
func record(dir *statedir.Dir, e history.Event) error {
	e.Kind, e.Actor = "root", history.Person()
	if err := history.Append(dir.Path(), e); err != nil {
		return fmt.Errorf("nothing was done: it cannot be recorded: %w", err)
	}
	return nil
}
