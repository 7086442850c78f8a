package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// merge believes a notice, or not, and lets it take its effect.
func (r *Roll) merge(h *heard) (news bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[h.hash] != nil {
		return false, nil
	}
	if err := r.vouch(h); err != nil {
		return false, err
	}
	old := r.held[h.slot]
	if old != nil && !h.overtakes(old) {
		return false, nil
	}
	if old == nil {
		if err := r.room(h); err != nil {
			return false, err
		}
	}
	var roots *Roots
	var cas []*x509.Certificate
	if h.Kind == NoticeRoots {
		if roots, cas, err = r.readRoots(h); err != nil {
			return false, fmt.Errorf("%w: %s: %w", ErrClaims, h.describe(), err)
		}
	}
	if old != nil {
		r.drop(old)
	}
	r.put(h)
	switch h.Kind {
	case NoticeRoots:
		r.roots, r.cas, r.good = roots, cas, map[[32]byte]bool{}
		r.sweep()
	case NoticeIssuerRevoked:
		r.sweep()
	}
	return true, nil
}

// vouch checks that a signer of the notice is trusted: one is enough, all have
// signed.
func (r *Roll) vouch(h *heard) error {
	var errs []error
	for _, c := range h.signers {
		err := r.trusts(c, h.At)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%s: %w", h.describe(), errors.Join(errs...))
}

// trusts checks that a CA certificate could sign a notice at a time.
func (r *Roll) trusts(c *x509.Certificate, at time.Time) error {
	if by, _, err := caName(c); err != nil || by == ByRoot {
		return r.trustsRoot(c, at)
	}
	if r.void[keyOf(c)] > 0 {
		return fmt.Errorf("%w: the issuing key of %q is revoked", ErrUntrusted, c.Subject.CommonName)
	}
	// As it is certified now, if it was certified again.
	for _, again := range r.cas {
		if twin(again, c) && within(again, at) {
			return nil
		}
	}
	sum := sha256.Sum256(c.Raw)
	if !r.good[sum] {
		if err := r.roots.checkCA(c, r.mesh); err != nil {
			return err
		}
		r.good[sum] = true // only what a root signed comes in here: there are few
	}
	if !within(c, at) {
		return fmt.Errorf("%w: %q is valid from %s to %s, not at %s", ErrUntrusted, c.Subject.CommonName, stamp(c.NotBefore), stamp(c.NotAfter), stamp(at))
	}
	return nil
}

func (r *Roll) trustsRoot(c *x509.Certificate, at time.Time) error {
	for _, root := range r.roots.certs {
		if bytes.Equal(root.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) && within(root, at) {
			return nil
		}
	}
	return fmt.Errorf("%w: signed with a root that is not trusted", ErrUntrusted)
}

func within(c *x509.Certificate, at time.Time) bool {
	return !at.Before(c.NotBefore) && !at.After(c.NotAfter)
}

// room holds the bounds. The root is bounded only by all notices together.
func (r *Roll) room(h *heard) error {
	signer := keyOf(h.signers[0])
	switch {
	case h.Kind == NoticeIssuerRevoked && r.revokedIssuers() >= maxIssuerRevoked:
		return fmt.Errorf("%w: %d revoked issuers; replace the root", ErrNoticeFull, maxIssuerRevoked)
	case !h.aboutNode():
		return nil
	case h.By != ByRoot && r.count[signer] >= maxIssuerNotices:
		return fmt.Errorf("%w: %d by %s already; if it was broken into, revoke its issuing key", ErrNoticeFull, maxIssuerNotices, h.By)
	case r.total >= maxNotices:
		return fmt.Errorf("%w: %d already; they are forgotten %s after their time", ErrNoticeFull, maxNotices, NoticeLife)
	}
	return nil
}

func (r *Roll) revokedIssuers() int {
	n := 0
	for _, times := range r.void {
		n += times
	}
	return n
}

func (r *Roll) put(h *heard) {
	r.held[h.slot], r.known[h.hash], r.digest = h, h, nil
	switch {
	case h.Kind == NoticeIssuerRevoked:
		r.void[h.Issuer]++
	case h.aboutNode():
		r.nodes[h.Node] = append(r.nodes[h.Node], h)
		r.count[h.slot.signer]++
		r.total++
	}
}

func (r *Roll) drop(h *heard) {
	delete(r.held, h.slot)
	delete(r.known, h.hash)
	r.digest = nil
	switch {
	case h.Kind == NoticeIssuerRevoked:
		if r.void[h.Issuer]--; r.void[h.Issuer] == 0 {
			delete(r.void, h.Issuer)
		}
	case h.aboutNode():
		r.nodes[h.Node] = slices.DeleteFunc(r.nodes[h.Node], func(x *heard) bool { return x == h })
		if len(r.nodes[h.Node]) == 0 {
			delete(r.nodes, h.Node)
		}
		if r.count[h.slot.signer]--; r.count[h.slot.signer] == 0 {
			delete(r.count, h.slot.signer)
		}
		r.total--
	}
}

// sweep drops what is no longer supported. The roots notice stays: by it the
// roots are what they are.
func (r *Roll) sweep() {
	for _, h := range r.held {
		if h.Kind != NoticeRoots && r.vouch(h) != nil {
			r.drop(h)
		}
	}
}

// readRoots checks what a roots notice tells: roots of this very mesh, and
// certificates that the first of them signed.
func (r *Roll) readRoots(h *heard) (*Roots, []*x509.Certificate, error) {
	mesh, err := meshOf(r.roots.certs[0])
	if err != nil {
		return nil, nil, err
	}
	roots, err := NewRoots(h.Roots...)
	if err != nil {
		return nil, nil, err
	}
	keys := map[[32]byte]bool{}
	for _, root := range roots.certs {
		m, err := meshOf(root)
		if err != nil {
			return nil, nil, err
		}
		if m != mesh {
			return nil, nil, fmt.Errorf("a root of another mesh: %q, %q, %s", m.Name, m.Domain, m.Prefix)
		}
		if keys[keyOf(root)] {
			return nil, nil, errors.New("the same root twice")
		}
		keys[keyOf(root)] = true
	}
	current := &Roots{certs: roots.certs[:1]}
	var cas []*x509.Certificate
	for _, der := range h.CAs {
		c, err := parseCert(der)
		if err != nil {
			return nil, nil, err
		}
		if err := current.checkCA(c, mesh.Name); err != nil {
			return nil, nil, err
		}
		cas = append(cas, c)
	}
	return roots, cas, nil
}
