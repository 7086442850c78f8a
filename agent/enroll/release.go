package enroll

import (
	"errors"
	"fmt"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// ErrNoSuchNode means that the node is not in this gateway's ledger.
var ErrNoSuchNode = errors.New("no such node in this gateway's ledger")

// Release frees the address and name of a node that left or was revoked. Its
// certificate can no longer be renewed here. The address rests until a day
// after notAfter, the end of the node's newest certificate anywhere, or after
// the end of the newest one given here.
func Release(dir *statedir.Dir, id discovery.NodeID, now, notAfter time.Time) error {
	return dir.Update(func() error {
		a, err := dir.Allocations()
		if err != nil {
			return fmt.Errorf("release node: %w", err)
		}
		e := find(a, id)
		if e == nil {
			return fmt.Errorf("release node %s: %w", id.Short(), ErrNoSuchNode)
		}
		free(e, now, notAfter)
		if err := dir.SetAllocations(a); err != nil {
			return fmt.Errorf("release node: %w", err)
		}
		return nil
	})
}

// free ends the use of an address.
func free(e *statedir.Allocation, now, notAfter time.Time) {
	e.Freed = now.UTC()
	if notAfter.After(e.NotAfter) {
		e.NotAfter = notAfter.UTC()
	}
}

// Ephemeral is a node that goes when it is gone.
type Ephemeral struct {
	ID       discovery.NodeID
	Name     string
	Site     string
	Since    time.Time
	Instance string // of EC2; empty: it did not join by its AWS identity
}

// ListEphemeral tells the ephemeral nodes in this gateway's ledger, in the
// order of their addresses.
func ListEphemeral(dir *statedir.Dir) ([]Ephemeral, error) {
	a, err := dir.Allocations()
	if err != nil {
		return nil, fmt.Errorf("list ephemeral nodes: %w", err)
	}
	var list []Ephemeral
	for _, e := range a.Addrs {
		if e.Ephemeral && e.Freed.IsZero() {
			list = append(list, Ephemeral{ID: e.Node, Name: e.Name, Site: e.Site, Since: e.Since, Instance: e.Instance})
		}
	}
	return list, nil
}
