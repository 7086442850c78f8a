package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"drawbridge/discovery"
)

// ErrRevoked means that the node, or the key that certified it, is revoked.
var ErrRevoked = errors.New("certificate revoked")

// Verify is [Verify] in the light of the notices: under the roots to trust now,
// with CA certificates as they were certified again, and refusing with
// [ErrRevoked] a revoked node and whatever a revoked issuing key has signed.
// Whether a quarantine matters is the caller's business.
func (r *Roll) Verify(chain [][]byte, now time.Time) (discovery.Identity, ed25519.PublicKey, error) {
	chain = r.Refresh(chain)
	id, key, err := Verify(chain, r.Roots(), r.mesh, now)
	if id.ID == "" {
		return id, key, err
	}
	signers := [][]byte{chain[1]}
	if first := Original(chain); first != nil {
		signers = append(signers, first[1])
	}
	for _, ca := range signers {
		if r.IssuerRevoked(ca) {
			return discovery.Identity{}, nil, fmt.Errorf("%w: %s was certified with a revoked issuing key", ErrRevoked, id.Name)
		}
	}
	if n, ok := r.Revoked(id.ID); ok {
		return discovery.Identity{}, nil, fmt.Errorf("%w: %s, by %s on %s (%s)", ErrRevoked, id.Name, n.By, stamp(n.At), n.Reason)
	}
	return id, key, err
}

// CAs are issuers and renewers as the current root certified them, DER, from
// the newest roots notice.
func (r *Roll) CAs() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ders [][]byte
	for _, c := range r.cas {
		ders = append(ders, c.Raw)
	}
	return ders
}

// Refresh replaces the issuer and renewer in a node's chain by the ones that
// were certified again, if there are such for the same subject and key: so
// chains that were made under an old root hold when that one is trusted no
// more. It verifies nothing. A gateway's own issuer and renewer are refreshed
// with [Roll.RefreshCA].
func (r *Roll) Refresh(chain [][]byte) [][]byte {
	r.mu.Lock()
	cas := r.cas // replaced as a whole, never changed
	r.mu.Unlock()
	if len(cas) == 0 || len(chain) < 2 || len(chain) > maxChain {
		return chain
	}
	out := slices.Clone(chain)
	places := []int{1}
	if renews, err := IsRenewer(chain[1]); err == nil && renews && len(chain) >= 4 {
		places = append(places, 3)
	}
	for _, i := range places {
		below, err := parseCert(chain[i-1])
		if err != nil {
			continue
		}
		out[i] = again(cas, chain[i], func(c *x509.Certificate) bool { return covers(c, below) })
	}
	return out
}

// RefreshCA is a CA certificate (DER) as it was certified again, for the same
// time; itself if it was not.
func (r *Roll) RefreshCA(ca []byte) []byte {
	r.mu.Lock()
	cas := r.cas
	r.mu.Unlock()
	c, err := parseCert(ca)
	if err != nil {
		return ca
	}
	return again(cas, ca, func(x *x509.Certificate) bool { return x.NotBefore.Equal(c.NotBefore) })
}

func again(cas []*x509.Certificate, ca []byte, fits func(*x509.Certificate) bool) []byte {
	c, err := parseCert(ca)
	if err != nil {
		return ca
	}
	for _, x := range cas {
		if twin(x, c) && fits(x) {
			return x.Raw
		}
	}
	return ca
}
