package rootca

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// ErrStep means that the rotation is not where this step begins.
var ErrStep = errors.New("not the next step of the rotation")

// Rotate is the first step of replacing the root: it makes a second root, which
// is trusted beside the present one and certifies nothing yet. It returns the
// notice that tells so.
//
// For this and the other steps: cas are the certificates (DER) of all issuers
// and renewers in use, which the notice carries as the current root certifies
// them, with those of the notice before; those with a revoked key are left out.
// The epoch must be higher than that of any roots notice before. A step may be
// repeated: with the same epoch it returns the same notice, with a higher one
// a notice with what cas has then. Notices are kept among those of the
// directory; the caller spreads them. Call it within [statedir.Dir.Update].
func Rotate(dir *statedir.Dir, cas [][]byte, epoch uint64, now time.Time) ([]byte, error) {
	return step{
		name: "rotate", from: []stage{stageNone, stageStarted},
		roots: func(v *vault) [][]byte {
			if v.stage() == stageNone {
				return nil // made on the way
			}
			return v.roots
		},
		before: (*vault).addRoot,
	}.take(dir, cas, epoch, now)
}

// Switch is the second step: the new root becomes the current one, certifies
// from now on, and certifies all of cas again. It returns the notice that tells
// so. See [Rotate].
func Switch(dir *statedir.Dir, cas [][]byte, epoch uint64, now time.Time) ([]byte, error) {
	return step{
		name: "switch", from: []stage{stageStarted, stageSwitched},
		roots: func(v *vault) [][]byte {
			if v.stage() == stageStarted {
				return [][]byte{v.roots[1], v.roots[0]}
			}
			return v.roots
		},
		before: (*vault).exchange,
	}.take(dir, cas, epoch, now)
}

// Retire is the last step: every root but the current one is dropped, and its
// key is removed from this disk. It returns the notice that tells so, which the
// old root has signed too, as its last act: who still trusts that one only
// believes it. All certificates in use must have been certified again by then,
// and [Reissue] comes before. See [Rotate].
func Retire(dir *statedir.Dir, cas [][]byte, epoch uint64, now time.Time) ([]byte, error) {
	return step{
		name: "retire", from: []stage{stageSwitched, stageLost},
		roots: func(v *vault) [][]byte { return v.roots[:1] },
		after: (*vault).dropOld,
	}.take(dir, cas, epoch, now)
}

// step is one step of a rotation.
type step struct {
	name   string
	from   []stage                           // where it begins, or began when it is repeated
	roots  func(*vault) [][]byte             // what will be trusted; nil: not known yet
	before func(*vault, time.Time) error     // changes keys and roots; nothing when repeated
	after  func(v *vault, _ time.Time) error // the same, when the notice is on disk
}

func (s step) take(dir *statedir.Dir, cas [][]byte, epoch uint64, now time.Time) ([]byte, error) {
	b, err := s.run(dir, cas, epoch, now)
	if err != nil {
		return nil, fmt.Errorf("%s root: %w", s.name, err)
	}
	return b, nil
}

func (s step) run(dir *statedir.Dir, cas [][]byte, epoch uint64, now time.Time) ([]byte, error) {
	v, err := open(dir)
	if err != nil {
		return nil, err
	}
	if _, err := v.signer(v.roots[0]); err != nil {
		return nil, err
	}
	last, err := v.lastNotice()
	if err != nil {
		return nil, err
	}
	at := v.stage()
	if s.name == "retire" && at == stageNone && last.tells(v.roots) {
		return last.raw, v.dropOld(now) // repeated, after the old root was dropped
	}
	if !slices.Contains(s.from, at) {
		return nil, at.refuse()
	}
	if last.raw != nil && last.Epoch == epoch && last.tells(s.roots(&v)) {
		return last.raw, errors.Join(s.change(s.before, &v, now), s.change(s.after, &v, now))
	}
	if last.raw != nil && last.Epoch >= epoch {
		return nil, fmt.Errorf("%w: epoch %d; that of the step before was %d, if the mesh does not know it, publish its notice first", ErrStep, epoch, last.Epoch)
	}
	for i, ca := range cas {
		if err := v.checkCA(ca); err != nil {
			return nil, fmt.Errorf("CA certificate %d of %d: %w", i+1, len(cas), err)
		}
	}
	if err := record(dir, history.Event{At: now, Subject: v.mesh.Name, To: s.name, Detail: map[string]string{
		"root": pinText(v.roots[0]), "epoch": strconv.FormatUint(epoch, 10),
	}}); err != nil {
		return nil, err
	}
	if err := s.change(s.before, &v, now); err != nil {
		return nil, err
	}
	b, err := v.tell(pki.Notice{Kind: pki.NoticeRoots, Reason: s.name, Epoch: epoch, At: now, Roots: s.roots(&v)}, append(slices.Clone(cas), last.lasting(now)...))
	if err != nil {
		return nil, err
	}
	return b, s.change(s.after, &v, now)
}

func (s step) change(f func(*vault, time.Time) error, v *vault, now time.Time) error {
	if f == nil {
		return nil
	}
	return f(v, now)
}

// addRoot makes the second root, unless it is there.
func (v *vault) addRoot(now time.Time) error {
	if v.stage() == stageStarted {
		return nil
	}
	// The key first: a root without one would be trusted for nothing.
	if v.next == nil {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return fmt.Errorf("make root key: %w", err)
		}
		if err := v.dir.SetNextRootKey(key); err != nil {
			return err
		}
		v.next = key
	}
	cert, err := pki.Successor(v.roots[0], v.next, now)
	if err != nil {
		return err
	}
	return v.trust(v.roots[0], cert)
}

// exchange makes the second root the current one. Each key is in one file at
// least, at any moment.
func (v *vault) exchange(time.Time) error {
	if v.stage() == stageStarted {
		former, next := v.keyOf(v.roots[0]), v.keyOf(v.roots[1])
		if err := v.dir.SetOldRootKey(former); err != nil {
			return err
		}
		if err := v.dir.SetRootKey(next); err != nil {
			return err
		}
		v.key, v.old = next, former
		if err := v.trust(v.roots[1], v.roots[0]); err != nil {
			return err
		}
	}
	v.next = nil
	return v.dir.RemoveNextRootKey() // it is root.key now
}

// dropOld forgets all roots but the current one, and their keys.
func (v *vault) dropOld(time.Time) error {
	if err := v.trust(v.roots[0]); err != nil {
		return err
	}
	v.next, v.old = nil, nil
	return errors.Join(v.dir.RemoveOldRootKey(), v.dir.RemoveNextRootKey())
}

// trust writes the roots of this directory.
func (v *vault) trust(roots ...[]byte) error {
	if err := v.dir.SetRoots(roots); err != nil {
		return err
	}
	v.roots = roots
	return nil
}

// lastNotice is the newest roots notice of a directory.
type lastNotice struct {
	pki.Notice
	raw []byte // nil: there is none
}

func (v *vault) lastNotice() (lastNotice, error) {
	list, err := v.notices()
	if err != nil {
		return lastNotice{}, err
	}
	var last lastNotice
	for _, b := range list {
		n, err := pki.ReadNotice(b)
		if err == nil && n.Kind == pki.NoticeRoots && (last.raw == nil || n.Epoch > last.Epoch) {
			last = lastNotice{Notice: n, raw: b}
		}
	}
	return last, nil
}

// lasting are its CA certificates that have not ended long ago. Originals under
// older ones may still be renewed: whoever sees one in use names it.
func (n lastNotice) lasting(now time.Time) [][]byte {
	var out [][]byte
	for _, der := range n.CAs {
		if _, to, err := pki.Lifetime(der); err == nil && now.Sub(to) <= pki.MaxNodeLife {
			out = append(out, der)
		}
	}
	return out
}

// tells reports whether a notice tells exactly these roots.
func (n lastNotice) tells(roots [][]byte) bool {
	return n.raw != nil && slices.EqualFunc(n.Roots, roots, bytes.Equal)
}
