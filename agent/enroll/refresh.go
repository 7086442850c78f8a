package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Refresh follows a new set of roots on the disk of a member: its chain and, on
// gateways, its issuing and renewal certificates become those that the current
// root certified. Behind a gateway's chain its older issuing certificate stays
// as long as the root above that is trusted too: tokens that pin this root are
// good until it is dropped. It returns the chain.
func Refresh(dir *statedir.Dir, roll *pki.Roll) ([][]byte, error) {
	chain, err := refresh(dir, roll, time.Now())
	if err != nil {
		return nil, fmt.Errorf("follow new roots: %w", err)
	}
	return chain, nil
}

func refresh(dir *statedir.Dir, roll *pki.Roll, now time.Time) ([][]byte, error) {
	t, err := trustOf(dir, roll)
	if err != nil {
		return nil, err
	}
	old, err := dir.Chain()
	if err != nil {
		return nil, err
	}
	if err := recertified(dir, roll); err != nil {
		return nil, err
	}
	chain := withOlder(roll.Refresh(old), old[1:], t, now)
	if slices.EqualFunc(chain, old, bytes.Equal) {
		return chain, nil
	}
	return chain, dir.SetChain(chain)
}

// recertified takes over the issuing and renewal certificates that the current
// root signed again. Servers have none.
func recertified(dir *statedir.Dir, roll *pki.Roll) error {
	for _, f := range []struct {
		get func() ([]byte, error)
		set func([]byte) error
	}{{dir.Issuer, dir.SetIssuer}, {dir.Renewer, dir.SetRenewer}} {
		cert, err := f.get()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if again := roll.RefreshCA(cert); !bytes.Equal(again, cert) {
			if err := f.set(again); err != nil {
				return err
			}
		}
	}
	return nil
}

// withOlder is a chain without what does not serve any more, and with those
// older issuing certificates behind it that verify its leaf under a root which
// is trusted besides the current one.
func withOlder(chain, older [][]byte, t trust, now time.Time) [][]byte {
	if renews, err := pki.IsRenewer(chain[1]); err != nil || renews {
		return chain
	}
	out := chain[:2:2]
	ders := t.roll.Roots().Certs()
	if len(ders) < 2 {
		return out
	}
	for _, ca := range older {
		if len(out) == maxChain || slices.ContainsFunc(out, func(x []byte) bool { return bytes.Equal(x, ca) }) {
			continue
		}
		roots, err := pki.NewRoots(ders[1:]...)
		if err != nil {
			break
		}
		if id, _, _ := pki.Verify([][]byte{chain[0], ca}, roots, t.mesh, now); id.Role == discovery.RoleGateway {
			out = append(out, ca)
		}
	}
	return out
}
