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

// Transient is a node that may be taken out without a person.
type Transient struct {
	ID        discovery.NodeID
	Name      string
	Site      string
	Since     time.Time
	Ephemeral bool   // it goes when it is gone
	Instance  string // of EC2, and it goes with that; empty: it did not join by its AWS identity
}

// ListTransient tells the nodes in this gateway's ledger that are ephemeral or
// cloud instances, in the order of their addresses.
func ListTransient(dir *statedir.Dir) ([]Transient, error) {
	a, err := dir.Allocations()
	if err != nil {
		return nil, fmt.Errorf("list transient nodes: %w", err)
	}
	var list []Transient
	for _, e := range a.Addrs {
		if e.Freed.IsZero() && (e.Ephemeral || e.Instance != "") {
			list = append(list, Transient{
				ID: e.Node, Name: e.Name, Site: e.Site, Since: e.Since, Ephemeral: e.Ephemeral, Instance: e.Instance,
			})
		}
	}
	return list, nil
}
