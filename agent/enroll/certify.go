package enroll

import (
	"slices"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// recertify lets the root key, if it is here, certify another gateway's issuing
// key again: the same key, for the block that the gateway has.
func (s *Server) recertify(t trust, c *call) (answer, *Error) {
	id, bad := s.member(t, c)
	if bad != nil {
		return answer{}, bad
	}
	if id.Role != discovery.RoleGateway || !sameKey(c.Chain[1], c.Issuer) {
		return answer{}, refuse(CodeUnknownNode, "only a gateway is certified again, with its own issuing key")
	}
	return s.commit(t, c, func() (outcome, *Error) {
		ledger, err := s.opts.Dir.Allocations()
		if err != nil {
			s.log.Error("read ledger", "err", err)
			return outcome{}, refuse(CodeInternal, "the gateway cannot read its ledger of blocks")
		}
		own := func(g statedir.Grant) bool { return g.Node == c.id && g.Freed.IsZero() && g.Block.Contains(id.Addr) }
		if _, err := s.opts.Dir.RootKey(); err == nil && !slices.ContainsFunc(ledger.Blocks, own) {
			return outcome{}, refuse(CodeUnknownNode, "the root key gave this gateway no block, or took it back")
		}
		g, bad := s.signGateway(t, id.Name, c)
		if bad != nil {
			return outcome{}, bad
		}
		s.log.Info("gateway certified again", "node", id.Name, "peer", c.id)
		return outcome{
			ans: answer{Code: CodeOK, Issuer: g.Issuer, Renewer: g.Renewer},
			events: []history.Event{{Kind: eventRenewed, Subject: subject(c.id, id.Name), Reason: "issuer", Detail: map[string]string{
				"block": g.Block.String(),
			}}},
		}, nil
	})
}
