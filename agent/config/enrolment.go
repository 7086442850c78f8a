package config

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
)

const (
	maxAWSRules  = 64
	maxListen    = 4
	maxAdvertise = 4 // what a record holds
)

func readEnrolment(s *section, e *Enrolment) {
	n, ok := s.sub("enrolment")
	if !ok {
		return
	}
	field(n, "node_life", &e.NodeLife, duration(time.Minute, 90*24*time.Hour))
	list(n, "listen", &e.Listen, listenAddr)
	list(n, "advertise", &e.Advertise, dialable)
	if len(e.Listen) > maxListen {
		n.fail("listen", "%d addresses, at most %d", len(e.Listen), maxListen)
	}
	if len(e.Advertise) > maxAdvertise {
		n.fail("advertise", "%d addresses, at most %d", len(e.Advertise), maxAdvertise)
	}
	field(n, "require_approval", &e.RequireApproval, boolean)
	field(n, "ephemeral_after", &e.EphemeralAfter, duration(30*time.Second, 7*24*time.Hour))
	field(n, "quarantine_clones", &e.QuarantineClones, boolean)
	field(n, "sts_endpoint", &e.STSEndpoint, optional(endpointURL))
	names := map[string]bool{}
	for _, a := range n.subs("aws_iam") {
		r := readAWSRule(a)
		switch {
		case r.Name != "" && names[r.Name]:
			a.fail("name", "rule %q is written twice", r.Name)
		case len(e.AWS) == maxAWSRules:
			a.fail("name", "more than %d rules", maxAWSRules)
		}
		names[r.Name] = true
		e.AWS = append(e.AWS, r)
	}
	n.done()
	slices.SortFunc(e.AWS, func(a, b AWSRule) int { return cmp.Compare(a.Name, b.Name) })
}

func readAWSRule(n *section) AWSRule {
	r := defaultAWSRule()
	field(n, "name", &r.Name, label)
	field(n, "account", &r.Account, like(accountShape, "an AWS account, 12 digits in quotes"))
	field(n, "iam_role", &r.Role, like(rolePattern, "the name of an IAM role without its path, with * and ? as wildcards"))
	field(n, "site", &r.Site, label)
	field(n, "node_role", &r.NodeRole, oneOf(discovery.RoleServer, discovery.RoleGateway))
	list(n, "names", &r.Names, like(namePattern, "a node name, with * and ? as wildcards"))
	field(n, "ephemeral", &r.Ephemeral, boolean)
	readSubnets(n, "subnets", &r.Subnets)
	if r.NodeRole == discovery.RoleGateway && len(r.Subnets) > 0 {
		n.fail("subnets", "a gateway advertises no subnets; only servers do")
	}
	n.done()
	n.require("a rule of aws_iam", "name", "account", "iam_role", "site")
	return r
}

func defaultAWSRule() AWSRule { return AWSRule{NodeRole: discovery.RoleServer} }

func describeEnrolment(e, d Enrolment) []item {
	return []item{
		put("node_life", e.NodeLife, d.NodeLife, short),
		put("listen", e.Listen, d.Listen, flow(printed[netip.AddrPort])),
		put("advertise", e.Advertise, d.Advertise, flow(printed[netip.AddrPort])),
		put("require_approval", e.RequireApproval, d.RequireApproval, truth),
		put("ephemeral_after", e.EphemeralAfter, d.EphemeralAfter, short),
		put("quarantine_clones", e.QuarantineClones, d.QuarantineClones, truth),
		put("sts_endpoint", e.STSEndpoint, d.STSEndpoint, quoted),
		{key: "aws_iam", list: each(e.AWS, describeAWSRule)},
	}
}

func describeAWSRule(r AWSRule) []item {
	d := defaultAWSRule()
	return []item{
		{key: "name", value: quoted(r.Name)},
		{key: "account", value: quoted(r.Account)},
		{key: "iam_role", value: quoted(r.Role)},
		{key: "site", value: quoted(r.Site)},
		put("node_role", r.NodeRole, d.NodeRole, plain),
		put("names", r.Names, d.Names, flow(quoted)),
		put("ephemeral", r.Ephemeral, d.Ephemeral, truth),
		put("subnets", r.Subnets, d.Subnets, flow(printed[netip.Prefix])),
	}
}
