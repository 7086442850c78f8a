package enroll

import (
	"context"
	"errors"
	"os"
	"path"
	"regexp"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Bounds of questions to AWS: one per connection, so many at once, so long each.
const (
	maxAWSCalls = 8
	awsTime     = 5 * time.Second
)

// instanceID is the form of an EC2 instance id. The session of a role that only
// EC2 may assume is the instance; whoever else may assume it chooses freely.
var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// joinAWS lets a host in by its AWS identity.
func (s *Server) joinAWS(ctx context.Context, t trust, c *call) (answer, *Error) {
	if s.opts.AWS == nil || len(s.opts.AWSRules) == 0 {
		return answer{}, refuse(CodeNoAWS, "this gateway takes no AWS identities")
	}
	caller, bad := s.ask(ctx, c)
	if bad != nil {
		return answer{}, bad
	}
	rule, bad := ruleFor(s.opts.AWSRules, caller, c)
	if bad != nil {
		return answer{}, bad
	}
	return s.commit(t, c, func() (outcome, *Error) { return s.enter(t, rule, caller, c) })
}

// ask lets AWS confirm who asks. No lock is held.
func (s *Server) ask(ctx context.Context, c *call) (AWSCaller, *Error) {
	ctx, cancel := context.WithTimeout(ctx, awsTime)
	defer cancel()
	select {
	case s.aws <- struct{}{}:
		defer func() { <-s.aws }()
	case <-ctx.Done():
		return AWSCaller{}, refuse(CodeBusy, "%d hosts are being looked up at AWS already", maxAWSCalls)
	}
	caller, err := s.opts.AWS(ctx, c.AWSProof, challenge(c.exported, c.request.Question))
	switch {
	case errors.Is(err, ErrAWSAway), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		s.log.Warn("ask AWS", "endpoint", c.from, "err", err)
		return AWSCaller{}, refuse(CodeAWSAway, "the gateway could not ask AWS who this host is")
	case err != nil:
		s.log.Info("AWS identity refused", "endpoint", c.from, "err", err)
		return AWSCaller{}, refuse(CodeBadAWS, "AWS does not confirm who this host is: %s", printable(err.Error()))
	}
	return caller, nil
}

// ruleFor is the first rule for a caller that allows the name.
func ruleFor(rules []AWSRule, caller AWSCaller, c *call) (AWSRule, *Error) {
	bad := refuse(CodeBadAWS, "no rule is for %s", printable(caller.ARN))
	for _, r := range rules {
		if r.Partition == "" {
			r.Partition = "aws"
		}
		if r.NodeRole == "" {
			r.NodeRole = discovery.RoleServer
		}
		fits, err := path.Match(r.Role, caller.Role)
		if err != nil || !fits || r.Role == "" || caller.Role == "" || r.Account != caller.Account || r.Partition != caller.Partition {
			continue
		}
		switch {
		case c.Site != "" && c.Site != r.Site:
			bad = refuse(CodeOtherSite, "the rule for %s is for site %q, not %q", caller.Role, r.Site, c.Site)
		case c.Role != "" && c.Role != r.NodeRole, (c.Issuer != nil) != (r.NodeRole == discovery.RoleGateway):
			bad = refuse(CodeOtherRole, "the rule for %s is for role %q", caller.Role, r.NodeRole)
		case !nameFits(r.Names, c.Name):
			bad = refuse(CodeOtherName, "the rule for %s is for other names than %q", caller.Role, c.Name)
		default:
			return r, nil
		}
	}
	return AWSRule{}, bad
}

// enter admits a confirmed host. The ledger's lock is held.
func (s *Server) enter(t trust, rule AWSRule, caller AWSCaller, c *call) (outcome, *Error) {
	wait, bad := s.waiting(c)
	if bad != nil {
		return outcome{}, bad
	}
	on := terms{
		caller: caller.ARN, site: rule.Site, role: rule.NodeRole, ephemeral: rule.Ephemeral, approval: s.approval(), subnets: rule.Subnets,
		until: c.now.Add(awsPatience), who: claimant{id: c.id, name: c.Name, role: rule.NodeRole},
	}
	if instanceID.MatchString(caller.Session) {
		on.who.instance = caller.Session
	}
	out, bad := s.admit(t, on, wait, c)
	if bad != nil {
		return out, bad
	}
	if err := s.opts.Dir.RemovePending(c.id, ""); err != nil {
		s.log.Warn("forget waiting host", "err", err)
	}
	s.log.Info("node joined by its AWS identity", "node", c.Name, "site", on.site, "role", on.role, "reason", caller.ARN)
	for i := range out.events {
		out.events[i].Detail["rule"], out.events[i].Detail["caller"] = rule.Name, caller.ARN
	}
	return out, nil
}

// before finds the other nodes of an instance in the ledger: there is one live
// node per instance. ok is false when one of them is there, or may be.
func (s *Server) before(a statedir.Allocations, who claimant) (earlier []discovery.Identity, ok bool) {
	for _, e := range a.Addrs {
		if who.instance == "" || e.Instance != who.instance || e.Node == who.id || !e.Freed.IsZero() {
			continue
		}
		if s.opts.Alive == nil || s.opts.Alive(e.Node) {
			return nil, false
		}
		earlier = append(earlier, discovery.Identity{ID: e.Node, Name: e.Name, Site: e.Site, Role: e.Role, Addr: e.Addr, NotAfter: e.NotAfter})
	}
	return earlier, true
}
