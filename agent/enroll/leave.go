package enroll

import (
	"context"
	"fmt"

	"drawbridge/agent/history"
)

// leave releases a node at its own wish. Any gateway does: where its address is
// from the ledger frees it, elsewhere its certificates say who it is. Leaving
// twice is leaving.
func (s *Server) leave(t trust, c *call) (answer, *Error) {
	if _, out := t.roll.Revoked(c.id); out {
		return answer{Code: CodeOK}, nil
	}
	id, bad := s.member(t, c)
	if bad != nil {
		return answer{}, bad
	}
	ans, bad := s.commit(t, c, func() (outcome, *Error) {
		out := outcome{ans: answer{Code: CodeOK}}
		ledger, err := s.opts.Dir.Allocations()
		if err != nil {
			s.log.Error("read ledger", "err", err)
			return outcome{}, refuse(CodeInternal, "the gateway cannot read its ledger of addresses")
		}
		entry := find(ledger, c.id)
		if entry == nil {
			return out, nil
		}
		free(entry, c.now, id.NotAfter)
		if err := s.opts.Dir.SetAllocations(ledger); err != nil {
			s.log.Error("keep ledger", "err", err)
			return outcome{}, refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
		}
		return out, nil
	})
	if bad != nil {
		return ans, bad
	}
	s.log.Info("node left", "node", id.Name, "peer", c.id)
	s.audit.keep(history.Event{At: c.now, Kind: eventLeft, Subject: subject(c.id, id.Name), Reason: "left", Actor: c.actor()})
	if s.opts.Left != nil {
		s.opts.Left(id)
	}
	return ans, nil
}

// Leave tells a gateway that this node is to be a member no more; the gateway
// tells the others. Nothing here is changed. Once one gateway has answered it
// cannot be undone: the host comes back with new keys only.
func Leave(ctx context.Context, o RenewOptions) error {
	m, err := o.member()
	if err != nil {
		return fmt.Errorf("leave mesh: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, allGateways)
	defer cancel()
	err = m.each(ctx, func(g *gateway) *Error {
		_, bad := g.ask(m.question(kindLeave), m.keys, nil)
		return bad
	})
	if err != nil {
		return fmt.Errorf("leave mesh: %w", err)
	}
	return nil
}
