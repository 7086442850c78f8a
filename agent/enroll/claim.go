package enroll

import (
	"slices"
	"strings"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// nameRest is how long after the end of its certificate a name still belongs
// to its node.
const nameRest = 72 * time.Hour

// claimant wants a name.
type claimant struct {
	id       discovery.NodeID
	name     string
	role     discovery.Role
	replace  bool   // a person or AWS says that it takes the place of the earlier node
	instance string // of EC2
}

// holder has the name so far.
type holder struct {
	discovery.Identity
	instance string
	out      bool  // revoked
	alive    *bool // nil: not known
}

// claim holds the rule of names: a name belongs to its node until that is
// revoked, or until its certificate has ended for 72 hours and it is not there
// any more. Who takes the place of another node (a person said so, or it is the
// same instance) need not wait, if that node has the same role and is certain
// not to be there. The earlier nodes that lose the name are returned; ok is
// false when one of them keeps it.
func claim(who claimant, holders []holder, now time.Time) (earlier []discovery.Identity, ok bool) {
	for _, h := range holders {
		switch {
		case h.out:
			continue
		case h.alive != nil && *h.alive:
			return nil, false
		case !h.NotAfter.IsZero() && now.Sub(h.NotAfter) > nameRest && h.Role == discovery.RoleServer:
		case (who.replace || who.instance != "" && who.instance == h.instance) && who.role == h.Role && h.alive != nil:
		default:
			return nil, false
		}
		earlier = append(earlier, h.Identity)
	}
	return earlier, true
}

// holders are the other nodes with the name, in the ledger and in the mesh,
// sorted by id. What both know counts with the later end.
func (s *Server) holders(t trust, a statedir.Allocations, who claimant) []holder {
	var list []holder
	add := func(id discovery.Identity, instance string) {
		if id.ID == who.id {
			return
		}
		i := slices.IndexFunc(list, func(h holder) bool { return h.ID == id.ID })
		if i < 0 {
			h := holder{Identity: id, instance: instance}
			_, h.out = t.roll.Revoked(id.ID)
			if s.opts.Alive != nil {
				alive := s.opts.Alive(id.ID)
				h.alive = &alive
			}
			list = append(list, h)
			return
		}
		if h := &list[i]; !h.NotAfter.IsZero() && id.NotAfter.After(h.NotAfter) {
			h.NotAfter = id.NotAfter
		}
	}
	for _, e := range a.Addrs {
		if e.Name == who.name && e.Freed.IsZero() {
			add(discovery.Identity{ID: e.Node, Name: e.Name, Site: e.Site, Role: e.Role, Addr: e.Addr, NotAfter: e.NotAfter}, e.Instance)
		}
	}
	for _, g := range a.Blocks {
		if g.Name == who.name && g.Freed.IsZero() {
			add(discovery.Identity{ID: g.Node, Name: g.Name, Role: discovery.RoleGateway}, "")
		}
	}
	if s.opts.Named != nil {
		for _, id := range s.opts.Named(who.name) {
			add(id, "")
		}
	}
	slices.SortFunc(list, func(x, y holder) int { return strings.Compare(string(x.ID), string(y.ID)) })
	return list
}

// succeed frees what earlier nodes have in the ledger, and notes that the house
// must be told of them.
func succeed(a *statedir.Allocations, earlier []discovery.Identity, by discovery.NodeID, now time.Time) {
	for _, id := range earlier {
		if e := find(*a, id.ID); e != nil {
			free(e, now, id.NotAfter)
		}
		a.Succeeded = slices.DeleteFunc(a.Succeeded, func(x statedir.Successor) bool { return x.Node == id.ID })
		a.Succeeded = append(a.Succeeded, statedir.Successor{
			Node: id.ID, Name: id.Name, Site: id.Site, Role: id.Role, Addr: id.Addr, By: by, At: now.UTC(),
		})
	}
}
