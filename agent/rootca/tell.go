package rootca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"drawbridge/agent/pki"
)

// tell signs a roots notice with every root that is trusted and whose key is
// here, the current one first, and keeps it.
func (v *vault) tell(n pki.Notice, cas [][]byte) ([]byte, error) {
	var signers []*pki.Signer
	for _, cert := range v.roots {
		if v.keyOf(cert) == nil {
			continue
		}
		s, err := v.signer(cert)
		if err != nil {
			return nil, err
		}
		signers = append(signers, s)
	}
	if len(signers) == 0 {
		return nil, ErrNoRootKey
	}
	var err error
	if n.CAs, err = v.certified(signers[0], cas, n.At); err != nil {
		return nil, err
	}
	b, err := pki.SignNotice(signers[0], v.mesh.Name, n, signers[1:]...)
	if err != nil {
		return nil, err
	}
	return b, v.keep(b)
}

// certified are CA certificates as root certifies them, each once, sorted by
// subject and time; without those whose key is revoked. One that root signed
// already stays as it is.
func (v *vault) certified(root *pki.Signer, cas [][]byte, now time.Time) ([][]byte, error) {
	roll, err := v.roll()
	if err != nil {
		return nil, err
	}
	current, err := pki.NewRoots(root.Cert())
	if err != nil {
		return nil, err
	}
	var done, todo [][]byte
	for _, der := range cas {
		switch {
		case roll.IssuerRevoked(der) || v.checkCA(der) != nil:
			// Of the notice before: those of the caller were checked.
		case pki.CheckCA(der, current, v.mesh.Name) == nil:
			done = append(done, der)
		default:
			todo = append(todo, der)
		}
	}
	slices.SortFunc(done, bytes.Compare)
	found := map[string][]byte{}
	for _, der := range append(done, todo...) {
		id, err := identify(der)
		if err != nil {
			return nil, err
		}
		if found[id] != nil {
			continue
		}
		if pki.CheckCA(der, current, v.mesh.Name) != nil {
			if der, err = pki.Recertify(root, der, now); err != nil {
				return nil, err
			}
		}
		found[id] = der
	}
	out := make([][]byte, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[id])
	}
	return out, nil
}

// identify says what a CA certificate and its twin under another root share:
// subject, key and beginning.
func identify(der []byte) (string, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %x %d", c.Subject.CommonName, c.RawSubjectPublicKeyInfo, c.NotBefore.Unix()), nil
}
