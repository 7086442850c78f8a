package enroll

import (
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// admit lets a host in whose token or rule allows it: name, approval, address
// or block. The ledger is on disk when it returns. wait is what the host waits
// with; nil: it did not wait. The ledger's lock is held.
func (s *Server) admit(t trust, on terms, wait *statedir.Pending, c *call) (outcome, *Error) {
	ledger, err := s.opts.Dir.Allocations()
	if err != nil {
		s.log.Error("read ledger", "err", err)
		return outcome{}, refuse(CodeNoIssuer, "this gateway cannot read its ledger of addresses")
	}
	if !ledger.Block.IsValid() {
		return outcome{}, refuse(CodeNoIssuer, "this gateway has no block of addresses")
	}
	if e := findAny(ledger, c.id); e != nil && (e.Name != c.Name || e.Site != on.site || e.Role != on.role) {
		return outcome{}, refuse(CodeNameTaken, "this host is in the mesh already, as %s %q of site %q", e.Role, e.Name, e.Site)
	}
	for _, g := range ledger.Blocks {
		if g.Node == c.id && g.Name != c.Name && g.Freed.IsZero() {
			return outcome{}, refuse(CodeNameTaken, "this host is in the mesh already, as gateway %q", g.Name)
		}
	}
	earlier, ok := claim(on.who, s.holders(t, ledger, on.who), c.now)
	if !ok {
		return outcome{}, refuse(CodeNameTaken, "another node has the name %q", c.Name)
	}
	same, ok := s.before(ledger, on.who)
	if !ok {
		return outcome{}, refuse(CodeInstanceTaken, "another node is alive on the instance %s", on.who.instance)
	}
	for _, id := range same {
		if !slices.ContainsFunc(earlier, func(x discovery.Identity) bool { return x.ID == id.ID }) {
			earlier = append(earlier, id)
		}
	}
	if on.approval && (wait == nil || wait.Verdict != statedir.Approved) {
		return s.hold(on, wait, c, "an operator's approval")
	}
	if on.role == discovery.RoleGateway {
		return s.grantBlock(t, ledger, earlier, on, wait, c)
	}
	return s.grantAddr(t, ledger, earlier, on, c)
}

// findAny returns the entry in use of a node; it points into the ledger.
func findAny(a statedir.Allocations, id discovery.NodeID) *statedir.Allocation {
	for i := range a.Addrs {
		if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() {
			return e
		}
	}
	return nil
}

// grantAddr gives an address, and certifies it.
func (s *Server) grantAddr(t trust, ledger statedir.Allocations, earlier []discovery.Identity, on terms, c *call) (outcome, *Error) {
	succeed(&ledger, earlier, c.id, c.now)
	forget(&ledger, c.now)
	entry, before := take(&ledger, c.id, s.addrUsed, c.now)
	if entry == nil {
		return outcome{}, refuse(CodeFull, "this gateway's block %s is used up", ledger.Block)
	}
	if before != nil {
		succeed(&ledger, []discovery.Identity{*before}, c.id, c.now)
	}
	entry.Name, entry.Site, entry.Role = c.Name, on.site, on.role
	entry.Ephemeral, entry.Instance, entry.Subnets = on.ephemeral, on.who.instance, on.subnets
	chain, bad := s.certify(t, entry, c)
	if bad != nil {
		return outcome{}, bad
	}
	if err := s.opts.Dir.SetAllocations(ledger); err != nil {
		s.log.Error("keep ledger", "err", err)
		return outcome{}, refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
	}
	return outcome{
		ans: answer{Code: CodeOK, Chain: chain}, introduce: chain, succeeded: ledger.Succeeded,
		events: []history.Event{issued(eventIssued, *entry, granted(c.Subnets, entry.Subnets))},
	}, nil
}

func (s *Server) addrUsed(a netip.Addr) bool { return s.opts.AddrInUse != nil && s.opts.AddrInUse(a) }

// certify issues the certificate of a ledger entry and notes its end there.
func (s *Server) certify(t trust, entry *statedir.Allocation, c *call) ([][]byte, *Error) {
	issuer, err := signer(s.opts.Dir.Issuer, s.opts.Dir.IssuerKey)
	if err != nil {
		s.log.Error("load issuing certificate", "err", err)
		return nil, refuse(CodeNoIssuer, "this gateway has no usable issuing certificate")
	}
	if t.roll.IssuerRevoked(issuer.Cert()) {
		return nil, refuse(CodeNoIssuer, "this gateway's issuing key was revoked")
	}
	leaf, err := pki.IssueNode(issuer, pki.Claims{
		Name: entry.Name, Site: entry.Site, Role: entry.Role, Addr: entry.Addr,
		Identity: c.Identity, WireGuard: [32]byte(c.WireGuard), Life: s.opts.NodeLife,
		Subnets: granted(c.Subnets, entry.Subnets),
	}, c.now)
	if err != nil {
		s.log.Error("issue certificate", "err", err)
		return nil, refuse(CodeNoIssuer, "this gateway cannot issue certificates now")
	}
	_, to, err := pki.Lifetime(leaf)
	if err != nil {
		s.log.Error("issue certificate", "err", err)
		return nil, refuse(CodeInternal, "this gateway cannot issue certificates now")
	}
	if to.After(entry.NotAfter) {
		entry.NotAfter = to.UTC()
	}
	return [][]byte{leaf, issuer.Cert()}, nil
}

// issued is the event of a certificate that was given.
func issued(kind string, e statedir.Allocation, subnets []netip.Prefix) history.Event {
	d := map[string]string{
		"site": e.Site, "role": string(e.Role), "address": e.Addr.String(), "until": e.NotAfter.UTC().Format(time.RFC3339),
	}
	if len(subnets) > 0 {
		d["subnets"] = prefixText(subnets)
	}
	return history.Event{Kind: kind, Subject: subject(e.Node, e.Name), Detail: d}
}
