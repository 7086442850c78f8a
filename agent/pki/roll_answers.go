package pki

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"drawbridge/discovery"
)

// Notices are all that hold, sorted, to be kept on the disk and told to others.
// They must not be changed.
func (r *Roll) Notices() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([][]byte, 0, len(r.held))
	for _, h := range r.held {
		out = append(out, h.raw)
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// List is all that holds, for people, newest first.
func (r *Roll) List() []Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*heard, 0, len(r.held))
	for _, h := range r.held {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *heard) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return bytes.Compare(a.hash[:], b.hash[:])
	})
	out := make([]Notice, 0, len(list))
	for _, h := range list {
		out = append(out, h.Notice)
	}
	return out
}

// Digest is the same for equal sets of notices.
func (r *Roll) Digest() [8]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.digest == nil {
		hashes := make([][32]byte, 0, len(r.known))
		for hash := range r.known {
			hashes = append(hashes, hash)
		}
		slices.SortFunc(hashes, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
		all := sha256.New()
		for _, hash := range hashes {
			all.Write(hash[:])
		}
		r.digest = new([8]byte)
		copy(r.digest[:], all.Sum(nil))
	}
	return *r.digest
}

// Revoked tells whether a node is out for good, by the earliest notice.
func (r *Roll) Revoked(id discovery.NodeID) (Notice, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first *heard
	for _, h := range r.nodes[id] {
		if h.Kind == NoticeRevoked && (first == nil || h.before(first)) {
			first = h
		}
	}
	if first == nil {
		return Notice{}, false
	}
	return first.Notice, true
}

func (h *heard) before(other *heard) bool {
	if !h.At.Equal(other.At) {
		return h.At.Before(other.At)
	}
	return bytes.Compare(h.hash[:], other.hash[:]) < 0
}

// Quarantined tells whether a node is set apart: of all that is said about it
// the highest epoch holds, and of equals the quarantine.
func (r *Roll) Quarantined(id discovery.NodeID) (Notice, bool) {
	h := r.quarantine(id)
	if h == nil || h.Kind != NoticeQuarantined {
		return Notice{}, false
	}
	return h.Notice, true
}

// QuarantineEpoch is the highest epoch of a quarantine or release of a node; 0
// without any. The next one takes a higher.
func (r *Roll) QuarantineEpoch(id discovery.NodeID) uint64 {
	if h := r.quarantine(id); h != nil {
		return h.Epoch
	}
	return 0
}

func (r *Roll) quarantine(id discovery.NodeID) *heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last *heard
	for _, h := range r.nodes[id] {
		if h.slot.kind == NoticeQuarantined && (last == nil || h.overtakes(last)) {
			last = h
		}
	}
	return last
}

// IssuerRevoked tells whether the key of a CA certificate (DER) is revoked. A
// certificate that cannot be read counts as such.
func (r *Roll) IssuerRevoked(ca []byte) bool {
	key, err := Pin(ca)
	r.mu.Lock()
	defer r.mu.Unlock()
	return err != nil || r.void[key] > 0
}

// newest is the roots notice; nil without. The lock is held.
func (r *Roll) newest() *heard { return r.held[slot{kind: NoticeRoots}] }

// RootsNotice is the newest notice about roots.
func (r *Roll) RootsNotice() (Notice, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.newest(); h != nil {
		return h.Notice, true
	}
	return Notice{}, false
}

// Roots are the roots to trust now: those of the newest notice, else those
// that were pinned.
func (r *Roll) Roots() *Roots {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.roots
}
