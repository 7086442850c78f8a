package enroll

import (
	"slices"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// tellReplaced tells the house of nodes whose names passed to others, and
// forgets them then. The ledger's lock is not held.
func (s *Server) tellReplaced(list []statedir.Successor) {
	if len(list) == 0 {
		return
	}
	for _, x := range list {
		s.log.Warn("node replaced", "node", x.Name, "peer", x.Node, "reason", "its name belongs to "+string(x.By)+" now")
		s.audit.keep(history.Event{
			Kind: eventReplaced, Subject: subject(x.Node, x.Name), From: string(x.Node), To: string(x.By),
			Reason: "replaced", Actor: "agent",
		})
		if s.opts.Replaced != nil {
			s.opts.Replaced(discovery.Identity{ID: x.Node, Name: x.Name, Site: x.Site, Role: x.Role, Addr: x.Addr})
		}
	}
	err := s.opts.Dir.Update(func() error {
		a, err := s.opts.Dir.Allocations()
		if err != nil {
			return err
		}
		a.Succeeded = slices.DeleteFunc(a.Succeeded, func(x statedir.Successor) bool {
			return slices.ContainsFunc(list, func(y statedir.Successor) bool { return x.Node == y.Node && x.By == y.By })
		})
		return s.opts.Dir.SetAllocations(a)
	})
	if err != nil {
		s.log.Error("replaced nodes will be told again", "err", err)
	}
}
