package enroll

import (
	"slices"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const (
	// maxRecoveries is how often a gateway renews one node whose certificate
	// had ended.
	maxRecoveries = 3
	// maxOver is how long after its end a certificate can be renewed.
	maxOver = 180 * 24 * time.Hour
	// maxAge is how long after its issue a certificate can be renewed by a
	// gateway that is not its home: such a gateway knows of a revocation only
	// as long as the notice is kept. Ten days are for a gateway that was cut
	// off and renewed a node that was revoked already.
	maxAge = pki.NoticeLife - 10*24*time.Hour
	// maxRecovered bounds the nodes of other gateways that were recovered here.
	maxRecovered = 4096
)

// renew certifies a node anew, which shows its present chain: so strangers cost
// neither lock nor disk. Here, where its address is from, it gets an original
// with the claims that the ledger has; a node of another gateway gets its
// certificate extended.
func (s *Server) renew(t trust, c *call) (answer, *Error) {
	id, bad := s.member(t, c)
	if bad != nil {
		return answer{}, bad
	}
	return s.commit(t, c, func() (outcome, *Error) {
		ledger, err := s.opts.Dir.Allocations()
		if err != nil {
			s.log.Error("read ledger", "err", err)
			return outcome{}, refuse(CodeInternal, "the gateway cannot read its ledger of addresses")
		}
		if entry := find(ledger, c.id); entry != nil {
			return s.renewOwn(t, ledger, entry, id.NotAfter, c)
		}
		if slices.ContainsFunc(ledger.Addrs, func(e statedir.Allocation) bool { return e.Node == c.id }) {
			return outcome{}, refuse(CodeUnknownNode, "this gateway released the node")
		}
		return s.extend(t, ledger, id, c)
	})
}

// renewOwn issues an original again. end is what the node's own chain says; it
// may have been renewed elsewhere since.
func (s *Server) renewOwn(t trust, ledger statedir.Allocations, entry *statedir.Allocation, end time.Time, c *call) (outcome, *Error) {
	c.Name = entry.Name
	if entry.NotAfter.After(end) {
		end = entry.NotAfter
	}
	bad := recoverable(end, entry.Recovered, c.now)
	if bad != nil {
		return outcome{}, bad
	}
	kind := "renewal"
	if c.now.After(end) {
		entry.Recovered++
		kind = "recovery"
	}
	entry.NotAfter = end
	chain, bad := s.certify(t, entry, c)
	if bad != nil {
		return outcome{}, bad
	}
	if err := s.opts.Dir.SetAllocations(ledger); err != nil {
		s.log.Error("keep ledger", "err", err)
		return outcome{}, refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
	}
	s.log.Info("certificate renewed", "node", entry.Name, "peer", c.id, "reason", kind)
	e := issued(eventRenewed, *entry, granted(c.Subnets, entry.Subnets))
	e.Reason = kind
	return outcome{ans: answer{Code: CodeOK, Chain: chain}, introduce: chain, events: []history.Event{e}, succeeded: ledger.Succeeded}, nil
}

// extend renews a node of another gateway. The disk is touched only for a
// recovery, which counts.
func (s *Server) extend(t trust, ledger statedir.Allocations, id discovery.Identity, c *call) (outcome, *Error) {
	if id.Role != discovery.RoleServer || id.WireGuard != [32]byte(c.WireGuard) {
		return outcome{}, refuse(CodeUnknownNode, "only the gateway that certified it can do this for the node")
	}
	n, end := 0, id.NotAfter
	at := slices.IndexFunc(ledger.Renewed, func(r statedir.Recovery) bool { return r.Node == c.id })
	if at >= 0 {
		if n = ledger.Renewed[at].Count; ledger.Renewed[at].NotAfter.After(end) {
			end = ledger.Renewed[at].NotAfter // the answer was lost
		}
	}
	if bad := recoverable(end, n, c.now); bad != nil {
		return outcome{}, bad
	}
	from, _, err := pki.Lifetime(c.Chain[0])
	if err != nil || c.now.Sub(from) > maxAge {
		return outcome{}, refuse(CodeExpired, "the node's certificate was issued %s: only its home gateway could renew it", from.UTC().Format(time.RFC3339))
	}
	kind := "renewal"
	if c.now.After(end) {
		kind = "recovery"
		if bad := s.nameFree(t, ledger, id, c); bad != nil {
			return outcome{}, bad
		}
	}
	renewer, err := signer(s.opts.Dir.Renewer, s.opts.Dir.IssuerKey)
	if err != nil || t.roll.IssuerRevoked(renewer.Cert()) {
		s.log.Error("load renewal certificate", "err", err)
		return outcome{}, refuse(CodeNoIssuer, "this gateway has no usable renewal certificate")
	}
	chain, err := pki.RenewNode(renewer, c.Chain, s.opts.NodeLife, c.now)
	if err != nil {
		s.log.Error("renew certificate", "node", id.Name, "err", err)
		return outcome{}, refuse(CodeNoIssuer, "this gateway cannot renew certificates now")
	}
	_, to, err := pki.Lifetime(chain[0])
	if err != nil {
		s.log.Error("renew certificate", "node", id.Name, "err", err)
		return outcome{}, refuse(CodeInternal, "this gateway cannot renew certificates now")
	}
	if kind == "recovery" {
		if bad := s.countRecovery(ledger, at, statedir.Recovery{Node: c.id, Count: n + 1, NotAfter: to.UTC()}, c.now); bad != nil {
			return outcome{}, bad
		}
	}
	s.log.Info("certificate of another gateway's node renewed", "node", id.Name, "peer", c.id, "reason", kind)
	e := issued(eventRenewed, statedir.Allocation{Node: c.id, Name: id.Name, Site: id.Site, Role: id.Role, Addr: id.Addr, NotAfter: to}, id.Subnets)
	e.Reason = kind
	return outcome{ans: answer{Code: CodeOK, Chain: chain}, introduce: chain, events: []history.Event{e}}, nil
}

// recoverable holds the rule of certificates that are over: so often, and not
// for ever.
func recoverable(end time.Time, n int, now time.Time) *Error {
	over := now.Sub(end)
	switch {
	case over <= 0:
		return nil
	case over > maxOver:
		return refuse(CodeExpired, "the node's certificate ended %s, more than %d days ago", end.UTC().Format(time.RFC3339), int(maxOver/(24*time.Hour)))
	case n >= maxRecoveries:
		return refuse(CodeTooOften, "the node was renewed after the end of its certificate %d times already", n)
	}
	return nil
}

// nameFree refuses the recovery of a node whose name passed to another while
// its certificate was over.
func (s *Server) nameFree(t trust, ledger statedir.Allocations, id discovery.Identity, c *call) *Error {
	for _, h := range s.holders(t, ledger, claimant{id: c.id, name: id.Name}) {
		if !h.out && (h.NotAfter.IsZero() || h.NotAfter.After(c.now)) {
			return refuse(CodeNameTaken, "another node has the name %q by now", id.Name)
		}
	}
	return nil
}

// countRecovery writes a recovery down. Who can be recovered nowhere any more
// is forgotten.
func (s *Server) countRecovery(ledger statedir.Allocations, at int, r statedir.Recovery, now time.Time) *Error {
	if at >= 0 {
		ledger.Renewed[at] = r
	} else {
		ledger.Renewed = append(ledger.Renewed, r)
	}
	ledger.Renewed = slices.DeleteFunc(ledger.Renewed, func(r statedir.Recovery) bool { return now.Sub(r.NotAfter) > maxOver })
	if len(ledger.Renewed) > maxRecovered {
		return refuse(CodeFull, "this gateway recovered %d nodes of others already", maxRecovered)
	}
	if err := s.opts.Dir.SetAllocations(ledger); err != nil {
		s.log.Error("keep ledger", "err", err)
		return refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
	}
	return nil
}
