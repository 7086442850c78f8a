package enroll

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// outcome is what a join came to, to be told once it is on disk.
type outcome struct {
	ans       answer
	introduce [][]byte // nil: nobody, or a gateway, which introduces itself
	events    []history.Event
	succeeded []statedir.Successor
}

// redeem spends one use of a token. Everything that reads and then writes
// happens under one lock, here and in other processes.
func (s *Server) redeem(t trust, c *call) (answer, *Error) {
	// Strangers are turned away before they can hold up the lock.
	if _, bad := s.token(c); bad != nil {
		return answer{}, bad
	}
	return s.commit(t, c, func() (outcome, *Error) {
		tok, bad := s.token(c)
		if bad != nil {
			return outcome{}, bad
		}
		return s.spend(t, tok, c)
	})
}

// commit runs a change of the ledger under its lock, and tells of it then.
func (s *Server) commit(t trust, c *call, change func() (outcome, *Error)) (answer, *Error) {
	var out outcome
	var bad *Error
	err := s.opts.Dir.Update(func() error {
		out, bad = change()
		return nil
	})
	if err != nil {
		s.log.Error("lock ledger", "err", err)
		return answer{}, refuse(CodeInternal, "the gateway cannot lock its ledger")
	}
	for _, e := range out.events {
		e.At = c.now
		if e.Actor == "" {
			e.Actor = c.actor()
		}
		s.audit.keep(e)
	}
	s.tellReplaced(out.succeeded)
	if bad != nil {
		return answer{}, bad
	}
	if out.introduce != nil && s.opts.Introduce != nil {
		s.opts.Introduce(out.introduce)
	}
	switch c.Kind {
	case kindJoin, kindJoinAWS:
		out.ans.Seeds, out.ans.Notices = s.seeds(), t.notices()
	case kindRenew, kindCertify:
		out.ans.Notices = t.rootsNotice()
	}
	return out.ans, nil
}

// token finds the token and checks the proof. One answer for "never heard of
// it" and "wrong proof": strangers learn nothing about ids.
func (s *Server) token(c *call) (statedir.Token, *Error) {
	tok, err := s.opts.Dir.Token(c.Token)
	unknown := refuse(CodeUnknownToken, "this gateway does not know the token")
	if errors.Is(err, fs.ErrNotExist) {
		return tok, unknown
	}
	if err != nil {
		s.log.Error("read token", "err", err)
		return tok, refuse(CodeInternal, "the gateway cannot read the token")
	}
	if !proven(tok.Public, proofToken, c.exported, c.request.Question, c.TokenProof) {
		return tok, unknown
	}
	return tok, nil
}

// spend holds the rules of a token whose holder is proven.
func (s *Server) spend(t trust, tok statedir.Token, c *call) (outcome, *Error) {
	if tok.Revoked {
		return outcome{}, refuse(CodeRevoked, "the token was revoked")
	}
	if i := slices.IndexFunc(tok.Redeemed, func(r statedir.Redemption) bool { return r.Node == c.id }); i >= 0 {
		return s.repeat(t, tok.Site, tok.Redeemed[i], c)
	}
	wait, bad := s.waiting(c)
	if bad != nil {
		return outcome{}, bad
	}
	if wait == nil {
		if bad := s.room(tok, c); bad != nil {
			return outcome{}, bad
		}
	}
	if bad := checkTerms(tok, c); bad != nil {
		return outcome{}, bad
	}
	on := terms{
		token: tok.ID, site: tok.Site, role: tok.Role, ephemeral: tok.Ephemeral, approval: tok.Approval || s.approval(), subnets: tok.Subnets,
		until: tok.Expires.Add(pendingTrail), who: claimant{id: c.id, name: c.Name, role: tok.Role, replace: tok.Replace},
	}
	out, bad := s.admit(t, on, wait, c)
	if bad != nil {
		return out, bad
	}
	return s.count(tok, out, c)
}

// room checks that a use is left that no other host has or waits for.
func (s *Server) room(tok statedir.Token, c *call) *Error {
	if c.now.After(tok.Expires) {
		return refuse(CodeExpired, "the token expired at %s", tok.Expires.UTC().Format(time.RFC3339))
	}
	nodes, err := s.opts.Dir.Reserved(tok.ID)
	if err != nil {
		s.log.Error("read waiting hosts", "err", err)
		return refuse(CodeInternal, "the gateway cannot read who waits")
	}
	taken := len(tok.Redeemed)
	for _, id := range nodes {
		if !slices.ContainsFunc(tok.Redeemed, func(r statedir.Redemption) bool { return r.Node == id }) {
			taken++
		}
	}
	if taken >= tok.Uses {
		return refuse(CodeUsedUp, "the token was used already (%d of %d)", taken, tok.Uses)
	}
	return nil
}

// count writes the use down. Only then may the answer go out.
func (s *Server) count(tok statedir.Token, out outcome, c *call) (outcome, *Error) {
	use := statedir.Redemption{Node: c.id, Name: c.Name, At: c.now.UTC()}
	if tok.Role == discovery.RoleGateway {
		use.Issuer, use.Renewer = out.ans.Issuer, out.ans.Renewer
	} else {
		use.Leaf, use.Above = out.ans.Chain[0], out.ans.Chain[1]
	}
	tok.Redeemed = append(tok.Redeemed, use)
	if err := s.opts.Dir.SetToken(tok); err != nil {
		s.log.Error("keep use of token", "err", err)
		return outcome{succeeded: out.succeeded}, refuse(CodeInternal, "the gateway cannot keep that the token was used")
	}
	if err := s.opts.Dir.RemovePending(c.id, tok.ID); err != nil {
		s.log.Warn("forget waiting host", "err", err) // it is in the token, and counts once
	}
	s.log.Info("node joined", "node", c.Name, "site", tok.Site, "role", tok.Role, "token", tok.ID, "uses_left", tok.Uses-len(tok.Redeemed))
	out.events = append([]history.Event{{Kind: eventTokenUsed, Subject: tok.ID, To: subject(c.id, c.Name)}}, out.events...)
	return out, nil
}

// repeat answers a node that redeemed this token before, as it did then: its
// answer was lost. Other claims under the same key are a second use.
func (s *Server) repeat(t trust, site string, r statedir.Redemption, c *call) (outcome, *Error) {
	if r.Name != c.Name || (r.Issuer != nil) != (c.Issuer != nil) {
		return outcome{}, refuse(CodeUsedUp, "the token was used already, by this node under the name %q", r.Name)
	}
	ledger, err := s.opts.Dir.Allocations()
	if err != nil {
		s.log.Error("read ledger", "err", err)
		return outcome{}, refuse(CodeInternal, "the gateway cannot read its ledger of addresses")
	}
	left := ledger.Succeeded // what a crash kept from being told
	if r.Issuer != nil {
		if !sameKey(r.Issuer, c.Issuer) {
			return outcome{}, refuse(CodeUsedUp, "the token was used already, with another issuing key")
		}
		return outcome{ans: answer{Code: CodeOK, Site: site, Issuer: r.Issuer, Renewer: r.Renewer}, succeeded: left}, nil
	}
	if find(ledger, c.id) == nil {
		return outcome{}, refuse(CodeUsedUp, "the token was used already, by this node, which left since")
	}
	above := r.Above
	if above == nil { // of an older version: the issuer was not kept
		if above, err = s.opts.Dir.Issuer(); err != nil {
			s.log.Error("read issuer", "err", err)
			return outcome{}, refuse(CodeNoIssuer, "this gateway has no issuing certificate")
		}
	}
	chain := t.roll.Refresh([][]byte{r.Leaf, above})
	id, _, err := t.roll.Verify(chain, c.now)
	if err != nil && !errors.Is(err, pki.ErrNotYetValid) || id.WireGuard != [32]byte(c.WireGuard) {
		return outcome{}, refuse(CodeUsedUp, "the token was used already, with other keys or long ago")
	}
	return outcome{ans: answer{Code: CodeOK, Chain: chain}, introduce: chain, succeeded: left}, nil
}
