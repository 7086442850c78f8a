package enroll

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const (
	// addrRest is how long an address rests after it was freed and its last
	// certificate has ended, so that no load balancer reaches a stranger under it.
	addrRest = 24 * time.Hour
	// maxRested bounds the freed and rested addresses that the ledger
	// remembers, to give those out last that were used last.
	maxRested = 4096
)

// take finds the address of a node in the ledger, or gives it one: its own,
// one never given, or else the one that has rested longest. Addresses that are
// used in the mesh all the same are left out. The entry is in the ledger; nil
// means that there is no address. before is the entry of a node that is so long
// over that its address was given away.
func take(a *statedir.Allocations, id discovery.NodeID, used func(netip.Addr) bool, now time.Time) (entry *statedir.Allocation, before *discovery.Identity) {
	at := map[netip.Addr]bool{}
	for i := range a.Addrs {
		if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() {
			return e, nil
		}
		at[a.Addrs[i].Addr] = true
	}
	fresh := statedir.Allocation{Node: id, Since: now.UTC()}
	addr, ok := pki.NextAddr(a.Block, func(x netip.Addr) bool { return at[x] || used(x) })
	if ok {
		fresh.Addr = addr
		a.Addrs = append(a.Addrs, fresh)
		return &a.Addrs[len(a.Addrs)-1], nil
	}
	var oldest *statedir.Allocation
	var since time.Time
	for i := range a.Addrs {
		e := &a.Addrs[i]
		t, ok := rests(*e, now)
		if !ok || now.Sub(t) < addrRest || oldest != nil && !t.Before(since) || used(e.Addr) {
			continue
		}
		oldest, since = e, t
	}
	if oldest == nil {
		return nil, nil
	}
	if oldest.Freed.IsZero() {
		before = &discovery.Identity{ID: oldest.Node, Name: oldest.Name, Site: oldest.Site, Role: oldest.Role, Addr: oldest.Addr}
	}
	fresh.Addr = oldest.Addr
	*oldest = fresh
	return oldest, before
}

// rests tells since when nobody may use an address: its node is freed, or so
// long over that no gateway renews it.
func rests(e statedir.Allocation, now time.Time) (since time.Time, ok bool) {
	switch {
	case !e.Freed.IsZero():
		since = e.Freed
		if e.NotAfter.After(since) {
			since = e.NotAfter
		}
		return since, true
	case e.Role == discovery.RoleServer && !e.NotAfter.IsZero() && now.Sub(e.NotAfter) > maxOver:
		return e.NotAfter.Add(maxOver), true
	}
	return since, false
}

// forget drops the entries that have rested longest, beyond the bound: their
// addresses count as never given.
func forget(a *statedir.Allocations, now time.Time) {
	type rested struct {
		addr  netip.Addr
		since time.Time
	}
	var done []rested
	for _, e := range a.Addrs {
		if t, ok := rests(e, now); ok && now.Sub(t) >= addrRest {
			done = append(done, rested{e.Addr, t})
		}
	}
	if len(done) <= maxRested {
		return
	}
	slices.SortFunc(done, func(x, y rested) int { return cmp.Or(x.since.Compare(y.since), x.addr.Compare(y.addr)) })
	drop := map[netip.Addr]bool{}
	for _, r := range done[:len(done)-maxRested] {
		drop[r.addr] = true
	}
	a.Addrs = slices.DeleteFunc(a.Addrs, func(e statedir.Allocation) bool { return drop[e.Addr] })
}

// find returns the entry of a server in use; it points into the ledger.
func find(a statedir.Allocations, id discovery.NodeID) *statedir.Allocation {
	for i := range a.Addrs {
		if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() && e.Role == discovery.RoleServer {
			return e
		}
	}
	return nil
}
