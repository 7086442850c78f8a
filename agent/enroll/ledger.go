package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Quarantine is how long an address rests after it was freed and its last
// certificate has ended, so that no load balancer reaches a stranger under it.
const Quarantine = 24 * time.Hour

// take finds the address of a node in the ledger, or gives it one: its own,
// one never given, or else one that has rested. The entry is in the ledger.
func take(a *statedir.Allocations, id discovery.NodeID, now time.Time) (*statedir.Allocation, bool) {
	at := map[netip.Addr]int{}
	for i := range a.Addrs {
		if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() {
			return e, true
		}
		at[a.Addrs[i].Addr] = i
	}
	fresh := statedir.Allocation{Node: id, Since: now.UTC()}
	addr, ok := pki.NextAddr(a.Block, func(x netip.Addr) bool { _, given := at[x]; return given })
	if ok {
		fresh.Addr = addr
		a.Addrs = append(a.Addrs, fresh)
		return &a.Addrs[len(a.Addrs)-1], true
	}
	for i := range a.Addrs {
		if e := &a.Addrs[i]; rested(*e, now) {
			fresh.Addr = e.Addr
			*e = fresh
			return e, true
		}
	}
	return nil, false
}

func rested(e statedir.Allocation, now time.Time) bool {
	if e.Freed.IsZero() {
		return false
	}
	since := e.Freed
	if e.NotAfter.After(since) {
		since = e.NotAfter
	}
	return now.Sub(since) >= Quarantine
}

// nameTaken reports whether another node in the ledger has the name.
func nameTaken(a statedir.Allocations, name string, id discovery.NodeID) bool {
	return slices.ContainsFunc(a.Addrs, func(e statedir.Allocation) bool {
		return e.Name == name && e.Node != id && e.Freed.IsZero()
	}) || slices.ContainsFunc(a.Blocks, func(g statedir.Grant) bool {
		return g.Name == name && g.Node != id
	})
}

// ErrNoSuchNode means that the node is not in this gateway's ledger.
var ErrNoSuchNode = errors.New("no such node in this gateway's ledger")

// Release frees the address and name of a node that left or was revoked. Its
// certificate can no longer be renewed here.
func Release(dir *statedir.Dir, id discovery.NodeID, now time.Time) error {
	return dir.Update(func() error {
		a, err := dir.Allocations()
		if err != nil {
			return fmt.Errorf("release node: %w", err)
		}
		for i := range a.Addrs {
			if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() && e.Role != discovery.RoleGateway {
				e.Freed = now.UTC()
				return dir.SetAllocations(a)
			}
		}
		return fmt.Errorf("release node %s: %w", id.Short(), ErrNoSuchNode)
	})
}
