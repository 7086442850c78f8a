package enroll

import (
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// terms are on what a proven host may join, by a token or by a rule.
type terms struct {
	token     string // "": by an AWS identity
	caller    string // the AWS identity
	site      string
	role      discovery.Role
	ephemeral bool
	approval  bool
	subnets   []netip.Prefix // that its nodes may ask for
	until     time.Time      // how long the host may wait
	who       claimant
}

// checkTerms holds a joining host to the limits of its token.
func checkTerms(tok statedir.Token, c *call) *Error {
	switch {
	case c.Site != "" && c.Site != tok.Site:
		return refuse(CodeOtherSite, "the token is for site %q, not %q", tok.Site, c.Site)
	case c.Role != "" && c.Role != tok.Role:
		return refuse(CodeOtherRole, "the token is for role %q, not %q", tok.Role, c.Role)
	case (c.Issuer != nil) != (tok.Role == discovery.RoleGateway):
		return refuse(CodeOtherRole, "the token is for role %q", tok.Role)
	case !nameFits(tok.Names, c.Name):
		return refuse(CodeOtherName, "the token is for the names %s, not %q", strings.Join(tok.Names, ", "), c.Name)
	case !sourceFits(tok.Sources, c.from.Addr()):
		return refuse(CodeOtherSource, "the token is not for hosts that come from %s", c.from.Addr().Unmap())
	}
	return nil
}

// nameFits reports whether a name is one of the globs'; none fit all.
func nameFits(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, name)
		return ok && err == nil
	})
}

// sourceFits reports whether an address is in one of the prefixes; none fit all.
func sourceFits(sources []netip.Prefix, from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return len(sources) == 0 || slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Contains(from) })
}

// approval reports whether every host needs a person's approval.
func (s *Server) approval() bool { return s.opts.RequireApproval != nil && s.opts.RequireApproval() }
