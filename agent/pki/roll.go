package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"drawbridge/discovery"
)

const (
	// NoticeLife is how long what was said of a node holds: longer than any
	// certificate that it had ([MaxNodeLife]), by 30 days. Nobody may accept
	// or renew a certificate that ended longer ago than these.
	NoticeLife = 120 * 24 * time.Hour
	// NoticeEarly is how far a signer's clock may be ahead.
	NoticeEarly = 24 * time.Hour
)

// Bounds of a roll. Without the last, those who fill it up could not be
// revoked any more.
const (
	maxNotices       = 8192 // about nodes
	maxIssuerNotices = 2048 // of these, by one issuer
	maxIssuerRevoked = 256  // besides
)

// Roll is the merged set of all notices that a node heard and believes. It
// does not depend on the order in which they were heard, once each was offered
// again that had been refused for a signer not trusted yet: two rolls that were
// told the same things have the same digest.
//
// A notice holds while its signer does. What is said of a node is kept for
// [NoticeLife]; revoked issuers and the newest roots are kept for good, since
// there are few, and the certificates that they concern live for years.
//
// It is safe for concurrent use.
type Roll struct {
	mesh string

	mu     sync.Mutex // guards the rest
	roots  *Roots
	cas    []*x509.Certificate // of the roots notice
	good   map[[32]byte]bool   // CA certificates that the roots signed, by hash
	held   map[slot]*heard
	known  map[[32]byte]*heard // the same by hash
	nodes  map[discovery.NodeID][]*heard
	void   map[[32]byte]int // revoked issuing keys, and how many say so
	count  map[[32]byte]int // notices about nodes, by issuing key
	total  int              // notices about nodes
	digest *[8]byte         // nil: to be computed
}

// heard is a notice that holds.
type heard struct {
	told
	raw  []byte
	hash [32]byte
	slot slot
}

// slot says what a notice is about and who says it; of several in one slot one
// holds. Signers have slots of their own, so that when one is voided the others
// have been heard.
type slot struct {
	kind   NoticeKind // a quarantine and its release share one
	node   discovery.NodeID
	issuer [32]byte // whom it voids
	signer [32]byte // key, see Pin
}

// NewRoll starts an empty roll of a mesh, with the roots that are pinned.
func NewRoll(mesh string, roots *Roots) *Roll {
	return &Roll{
		mesh: mesh, roots: roots,
		held: map[slot]*heard{}, known: map[[32]byte]*heard{}, nodes: map[discovery.NodeID][]*heard{},
		good: map[[32]byte]bool{}, void: map[[32]byte]int{}, count: map[[32]byte]int{},
	}
}

// Add verifies a notice and merges it in. news says that it changed something,
// and is worth telling others. A notice that was heard before, or that another
// one has overtaken, is no news and no error.
//
// Errors match [ErrNotice], [ErrNoticeFuture] (look at the clocks),
// [ErrNoticeOld], [ErrNoticeFull], [ErrUntrusted] or [ErrClaims]. After
// ErrUntrusted and ErrNoticeFull it may be offered again later.
func (r *Roll) Add(b []byte, now time.Time) (n Notice, news bool, err error) {
	if h := r.have(b); h != nil {
		return h.Notice, false, nil
	}
	h, err := r.read(b)
	if err != nil {
		return Notice{}, false, err
	}
	switch {
	case h.At.Sub(now) > NoticeEarly:
		return Notice{}, false, fmt.Errorf("%w: signed by %s at %s, the clock says %s; check both clocks", ErrNoticeFuture, h.By, stamp(h.At), stamp(now))
	case h.aged(now):
		return Notice{}, false, fmt.Errorf("%w: signed by %s at %s, kept for %s", ErrNoticeOld, h.By, stamp(h.At), NoticeLife)
	}
	news, err = r.merge(h)
	if err != nil {
		return Notice{}, false, err
	}
	return h.Notice, news, nil
}

// Restore merges what this host has kept on its own disk, in any order. The
// time is not looked at: it was when each was heard, and a clock that is wrong
// after a restart must not bring a revoked node back. See [Roll.Prune]. The
// error tells what was left out; all others were merged.
func (r *Roll) Restore(notices [][]byte) error {
	var errs []error
	var list []*heard
	for _, b := range notices {
		h, err := r.read(b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, h)
	}
	// Roots first, the oldest of them first: they decide on the others.
	slices.SortStableFunc(list, func(a, b *heard) int {
		switch ar, br := a.Kind == NoticeRoots, b.Kind == NoticeRoots; {
		case ar && !br:
			return -1
		case br && !ar:
			return 1
		case ar && a.Epoch < b.Epoch:
			return -1
		}
		return 0
	})
	for _, h := range list {
		if _, err := r.merge(h); err != nil {
			errs = append(errs, err)
		}
	}
	return summary(errs)
}

// summary joins the first few errors.
func summary(errs []error) error {
	if more := len(errs) - 4; more > 0 {
		errs = append(errs[:4:4], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// have finds a notice that is held, by all its bytes.
func (r *Roll) have(b []byte) *heard {
	sum := sha256.Sum256(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[sum]
}

// read checks form and signatures: all that does not depend on what is held.
func (r *Roll) read(b []byte) (*heard, error) {
	b = slices.Clone(b)
	t, err := parseNotice(b)
	if err != nil {
		return nil, err
	}
	if !t.proven(r.mesh) {
		return nil, fmt.Errorf("%w: wrong signature under a notice of the mesh %q", ErrUntrusted, r.mesh)
	}
	h := &heard{told: t, raw: b, hash: sha256.Sum256(b)}
	h.slot = slot{kind: t.Kind, node: t.Node, issuer: t.Issuer, signer: keyOf(t.signers[0])}
	switch t.Kind {
	case NoticeReleased:
		h.slot.kind = NoticeQuarantined
	case NoticeRoots:
		h.slot = slot{kind: NoticeRoots}
	}
	return h, nil
}

// aged: no longer kept.
func (h *heard) aged(now time.Time) bool { return h.aboutNode() && now.Sub(h.At) > NoticeLife }

// overtakes orders notices of one slot, all of them.
func (h *heard) overtakes(old *heard) bool {
	if h.Epoch != old.Epoch {
		return h.Epoch > old.Epoch
	}
	if h.Kind != old.Kind {
		return h.Kind == NoticeQuarantined
	}
	if len(h.signers) != len(old.signers) {
		return len(h.signers) > len(old.signers)
	}
	if !h.At.Equal(old.At) {
		return h.At.After(old.At)
	}
	return bytes.Compare(h.hash[:], old.hash[:]) > 0
}

// keyOf names a public key, as [Pin] does.
func keyOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Prune forgets what was said of nodes longer than [NoticeLife] ago, and tells
// how many notices that were. Call it when the clock can be believed.
func (r *Roll) Prune(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, h := range r.held {
		if h.aged(now) {
			r.drop(h)
			n++
		}
	}
	return n
}

// describe names a notice in errors.
func (h *heard) describe() string {
	s := string(h.Kind) + " notice by " + h.By
	if h.Node != "" {
		s += " about " + strings.TrimSpace(h.Name+" "+h.Node.Short())
	}
	return s
}
