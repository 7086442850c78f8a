package rootca

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// CreateRootDir makes the root of a new mesh in a directory of its own, which
// belongs to no member and can be kept offline. It refuses one that is in use.
// A crash leaves nothing that counts: the next call begins anew.
func CreateRootDir(path string, m pki.Mesh, now time.Time) (*statedir.Dir, error) {
	dir, err := statedir.Create(path)
	if err != nil {
		return nil, err
	}
	release, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	defer func() { _ = release() }() // the process ends soon, and the lock with it
	cert, key, err := pki.NewRoot(m, now)
	if err != nil {
		return nil, err
	}
	pin, err := pki.Pin(cert)
	if err != nil {
		return nil, err
	}
	// Abandon clears what did not finish, and only that.
	if err := errors.Join(dir.Abandon(), dir.Begin()); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	for _, step := range []func() error{
		func() error {
			return record(dir, history.Event{At: now, Subject: m.Name, To: "created", Detail: map[string]string{
				"pin": hex.EncodeToString(pin[:]), "prefix": m.Prefix.String(), "domain": m.Domain,
			}})
		},
		func() error { return dir.SetRootKey(key) },
		func() error { return dir.SetRoots([][]byte{cert}) },
		func() error { return dir.SetAllocations(statedir.Allocations{}) },
		dir.CommitRoot,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("make root: %w", err)
		}
	}
	return dir, nil
}
