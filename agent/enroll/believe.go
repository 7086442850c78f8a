package enroll

import (
	"errors"
	"fmt"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// believer decides on the certificates that the other end presents: whose they
// are. With an identity the error says that only their time is wrong.
type believer func(presented [][]byte, now time.Time) (discovery.Identity, error)

// pinned believes in the root with the pinned key. mesh is the name that the
// root must have; empty: any. found is told the root.
func pinned(pin [32]byte, mesh string, found func(root []byte)) believer {
	return func(presented [][]byte, now time.Time) (discovery.Identity, error) {
		root, err := pki.PinnedRoot(presented, pin)
		if err != nil {
			return discovery.Identity{}, err
		}
		m, err := pki.MeshOf(root)
		if err != nil {
			return discovery.Identity{}, err
		}
		if mesh != "" && m.Name != mesh {
			return discovery.Identity{}, fmt.Errorf("%w: the root of mesh %q, not %q", pki.ErrUntrusted, m.Name, mesh)
		}
		roots, err := pki.NewRoots(root)
		if err != nil {
			return discovery.Identity{}, err
		}
		found(root)
		return first(presented, func(chain [][]byte) (discovery.Identity, error) {
			id, _, err := pki.Verify(chain, roots, m.Name, now)
			return id, err
		})
	}
}

// believe is what a member believes: the roots it trusts now, and nobody who
// was revoked.
func (t trust) believe(presented [][]byte, now time.Time) (discovery.Identity, error) {
	return first(presented, func(chain [][]byte) (discovery.Identity, error) {
		id, _, err := t.roll.Verify(chain, now)
		return id, err
	})
}

// first goes through the chains that the certificates may mean, to the first
// that verifies; failing that, to one of which only the time is wrong.
func first(presented [][]byte, verify func([][]byte) (discovery.Identity, error)) (discovery.Identity, error) {
	best, why := discovery.Identity{}, fmt.Errorf("%w: %d certificates", pki.ErrUntrusted, len(presented))
	for i, chain := range pki.Alternatives(presented) {
		id, err := verify(chain)
		if err == nil {
			return id, nil
		}
		if timely := errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid); timely && best.ID == "" || i == 0 {
			best, why = id, err
		}
	}
	return best, why
}
