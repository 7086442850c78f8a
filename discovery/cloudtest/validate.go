package cloudtest

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

// checkName: up to 32 letters, digits and hyphens, no hyphen at the ends (API
// reference, CreateLoadBalancer and CreateTargetGroup).
func checkName(what, name string) error {
	if !nameForm.MatchString(name) {
		return invalid("%s name '%s' can only contain 1 to 32 alphanumeric characters and hyphens, none at its ends", what, name)
	}
	return nil
}

// parseConditions reads rule conditions. The fake's balancer knows two fields;
// others are refused rather than ignored.
func parseConditions(f form) ([]condition, error) {
	var out []condition
	for _, e := range f.list("Conditions.member") {
		c := condition{Field: e.get("Field")}
		c.Values.List = e.strings("Values.member")
		switch c.Field {
		case "path-pattern":
			c.Values.List = append(c.Values.List, e.strings("PathPatternConfig.Values.member")...)
		case "host-header":
			c.Values.List = append(c.Values.List, e.strings("HostHeaderConfig.Values.member")...)
		default:
			return nil, invalid("Condition field '%s' is not one of [path-pattern, host-header] that this fake knows", c.Field)
		}
		if len(c.Values.List) == 0 {
			return nil, invalid("A condition value must be specified")
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, invalid("A condition must be specified")
	}
	return out, nil
}

// parseActions reads, checks and stores the whole list of actions of a rule.
func (c *Cloud) parseActions(f form, prefix string, lb *loadBalancer, r *rule) error {
	var actions []action
	secret := ""
	for _, e := range f.list(prefix + ".member") {
		a, s, err := c.parseAction(e, lb, r)
		if err != nil {
			return err
		}
		if s != "" {
			secret = s
		}
		actions = append(actions, a)
	}
	if err := checkOrder(actions); err != nil {
		return err
	}
	if err := c.checkUniqueGroups(actions, lb, r); err != nil {
		return err
	}
	r.oidcSecret = secret
	r.set(actions, time.Now().Add(c.opts.Propagation))
	return nil
}

// checkOrder: each rule has exactly one of forward, redirect, fixed-response,
// and it is the last to be performed (API reference, Action.Order and
// CreateRule: InvalidLoadBalancerAction).
func checkOrder(actions []action) error {
	slices.SortStableFunc(actions, func(a, b action) int { return cmp.Compare(a.Order, b.Order) })
	for i, a := range actions {
		if len(actions) > 1 && a.Order == 0 {
			return invalid("An order must be specified for each of several actions")
		}
		if i > 0 && a.Order == actions[i-1].Order {
			return invalid("Action order '%d' is not unique", a.Order)
		}
		routing := a.Type == "forward" || a.Type == "redirect" || a.Type == "fixed-response"
		if routing != (i == len(actions)-1) {
			return fail(400, "InvalidLoadBalancerAction", "The last action must be the one of type forward, redirect or fixed-response")
		}
	}
	if len(actions) == 0 {
		return invalid("An action must be specified")
	}
	return nil
}

func (c *Cloud) parseAction(e form, lb *loadBalancer, r *rule) (action, string, error) {
	a := action{Type: e.get("Type")}
	var err error
	if a.Order, err = e.int("Order", 0, 1, 50000); err != nil { // API reference, Action.Order
		return a, "", err
	}
	switch a.Type {
	case "forward":
		a.TargetGroupArn = e.get("TargetGroupArn")
		a.ForwardConfig, err = c.parseForward(e, lb)
		if err == nil && len(a.ForwardConfig.TargetGroups.List) == 1 {
			// A forward to one group is answered in both notations.
			a.TargetGroupArn = a.ForwardConfig.TargetGroups.List[0].TargetGroupArn
		}
	case "fixed-response":
		x := e.sub("FixedResponseConfig")
		a.FixedResponseConfig = &fixedResponse{x.get("StatusCode"), x.get("ContentType"), x.get("MessageBody")}
		if !regexp.MustCompile(`^[245]\d\d$`).MatchString(a.FixedResponseConfig.StatusCode) {
			err = invalid("Fixed response status code '%s' is not valid", a.FixedResponseConfig.StatusCode)
		}
	case "redirect":
		x := e.sub("RedirectConfig")
		a.RedirectConfig = &redirect{x.get("StatusCode"), x.get("Host"), x.get("Path"), x.get("Port"), x.get("Protocol")}
		if s := a.RedirectConfig.StatusCode; s != "HTTP_301" && s != "HTTP_302" {
			err = invalid("Redirect status code '%s' is not valid", s)
		}
	case "authenticate-oidc":
		x := e.sub("AuthenticateOidcConfig")
		a.OIDC = &oidc{
			x.get("Issuer"), x.get("AuthorizationEndpoint"), x.get("TokenEndpoint"),
			x.get("UserInfoEndpoint"), x.get("ClientId"), x.get("Scope"),
		}
		secret, err := oidcSecret(x, r)
		return a, secret, err
	default:
		err = invalid("Action type '%s' is not known to this fake", a.Type)
	}
	return a, "", err
}

// oidcSecret: "This parameter is required if you are creating a rule. If you
// are modifying a rule, you can omit this parameter if you set
// UseExistingClientSecret to true" (API reference,
// AuthenticateOidcActionConfig). The secret is never returned.
func oidcSecret(x form, r *rule) (string, error) {
	keep, err := x.bool("UseExistingClientSecret", false)
	if err != nil {
		return "", err
	}
	given := x.get("ClientSecret")
	switch {
	case keep && given != "":
		return "", invalid("You cannot both specify a client secret and set UseExistingClientSecret to true")
	case keep && r.oidcSecret == "":
		return "", invalid("There is no existing client secret to use")
	case keep:
		return r.oidcSecret, nil
	case given == "":
		return "", invalid("You must either specify a client secret or set UseExistingClientSecret to true")
	}
	return given, nil
}

// parseForward reads both notations of a forward action.
func (c *Cloud) parseForward(e form, lb *loadBalancer) (*forward, error) {
	single, fw := e.get("TargetGroupArn"), &forward{}
	for _, t := range e.list("ForwardConfig.TargetGroups.member") {
		// API reference, TargetGroupTuple.Weight: 0 to 999; omitted means 1.
		w, err := t.int("Weight", 1, 0, discovery.MaxWeight)
		if err != nil {
			return nil, err
		}
		fw.TargetGroups.List = append(fw.TargetGroups.List, tuple{t.get("TargetGroupArn"), w})
	}
	// API reference, Action.TargetGroupArn: with both notations only one group
	// is allowed, and the same.
	if single != "" && len(fw.TargetGroups.List) > 0 &&
		(len(fw.TargetGroups.List) > 1 || fw.TargetGroups.List[0].TargetGroupArn != single) {
		return nil, invalid("TargetGroupArn and ForwardConfig must name the same single target group")
	}
	if len(fw.TargetGroups.List) == 0 && single != "" {
		fw.TargetGroups.List = []tuple{{single, 1}}
	}
	if err := c.checkForward(fw.TargetGroups.List, lb); err != nil {
		return nil, err
	}
	st, err := parseStickiness(e.sub("ForwardConfig.TargetGroupStickinessConfig"), lb)
	fw.Stickiness = st
	return fw, err
}

func (c *Cloud) checkForward(tuples []tuple, lb *loadBalancer) error {
	switch n := len(tuples); {
	case n == 0:
		return invalid("A target group ARN must be specified")
	case n > discovery.MaxGroupsInAction:
		// ALB user guide, quotas: 5 groups per action, not adjustable. The code
		// of the refusal is not documented.
		return invalid("A forward action can have at most %d target groups", discovery.MaxGroupsInAction)
	}
	sum, seen := 0, map[string]bool{}
	for _, t := range tuples {
		g := c.groups[t.TargetGroupArn]
		if g == nil {
			return fail(400, "TargetGroupNotFound", "Target group '%s' not found", t.TargetGroupArn)
		}
		if seen[g.arn] {
			return invalid("Target group '%s' is given more than once", g.arn)
		}
		seen[g.arn] = true
		sum += t.Weight
		if g.vpc != lb.vpc {
			return fail(400, "InvalidConfigurationRequest", "Target group '%s' is not in the VPC of the load balancer", g.arn)
		}
		if app := g.protocol == "HTTP" || g.protocol == "HTTPS"; app != (lb.typ == "application") {
			return fail(400, "InvalidConfigurationRequest", "Protocol %s of target group '%s' does not fit a load balancer of type '%s'", g.protocol, g.arn, lb.typ)
		}
		// ALB user guide, quotas: one load balancer per target group.
		if lbs := c.lbsOf(g.arn); len(lbs) > 0 && lbs[0] != lb.arn {
			return fail(400, "TargetGroupAssociationLimit", "Target group '%s' is associated with another load balancer", g.arn)
		}
	}
	if sum == 0 { // AWS does not say what it does; nobody wants to find out
		return invalid("At least one weight must be greater than 0 (a rule of this fake; AWS leaves it undefined)")
	}
	return nil
}

// parseStickiness: 1 to 604800 s, required on ALB when stickiness is on; NLB
// takes only the flag (API reference, TargetGroupStickinessConfig). A config
// that is not sent is off: the whole list is replaced.
func parseStickiness(x form, lb *loadBalancer) (stickiness, error) {
	on, err := x.bool("Enabled", false)
	if err != nil {
		return stickiness{}, err
	}
	secs, err := x.int("DurationSeconds", 0, 1, 604_800)
	if err != nil {
		return stickiness{}, err
	}
	if on && secs == 0 && lb.typ == "application" {
		return stickiness{}, invalid("Stickiness duration must be specified when stickiness is enabled")
	}
	if !on || lb.typ == "network" {
		secs = 0
	}
	return stickiness{on, secs}, nil
}

// checkUniqueGroups: 100 target groups per load balancer (ALB user guide,
// quotas).
func (c *Cloud) checkUniqueGroups(actions []action, lb *loadBalancer, changed *rule) error {
	seen := map[string]bool{}
	for _, g := range groupsOf(actions) {
		seen[g] = true
	}
	for _, r := range c.rules {
		if r == changed || c.listeners[r.listener].lb != lb.arn {
			continue
		}
		for _, g := range groupsOf(r.actions) {
			seen[g] = true
		}
	}
	if len(seen) > 100 {
		return fail(400, "TooManyUniqueTargetGroupsPerLoadBalancer", "The maximum number of unique target groups on '%s' has been reached", lb.arn)
	}
	return nil
}

// targetSpace is where addresses of ip targets may lie: the subnets of the
// VPC and these ranges; public addresses are refused (API reference,
// CreateTargetGroup.TargetType).
var targetSpace = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// checkZone applies the rules of TargetDescription.AvailabilityZone and
// returns the zone to store. AWS compares with subnets, not with the CIDRs of
// the VPC (aws-load-balancer-controller #3714).
func (c *Cloud) checkZone(g *group, addr netip.Addr, zone string) (string, error) {
	var home *subnet
	zones := map[string]bool{}
	for _, s := range c.subnets {
		if s.vpc != g.vpc {
			continue
		}
		zones[s.zone] = true
		if s.cidr.Contains(addr) {
			home = s
		}
	}
	inSpace := slices.ContainsFunc(targetSpace, func(p netip.Prefix) bool { return p.Contains(addr) })
	if home == nil && (!addr.Is4() || !inSpace) {
		return "", invalid("The IP address '%s' is not within the VPC and not within a private range that target groups accept", addr)
	}
	if home != nil {
		switch zone {
		case "", home.zone:
			return home.zone, nil
		case "all": // aws-load-balancer-controller #561
			return "", invalid("The IP address '%s' is within the VPC, and cannot have its Availability Zone overridden to 'all' from '%s'", addr, home.zone)
		}
		return "", invalid("The IP address '%s' is within the VPC, and cannot have its Availability Zone overridden to '%s' from '%s'", addr, zone, home.zone)
	}
	if err := checkClientIP(g, addr); err != nil {
		return "", err
	}
	crossZone := g.attrs["load_balancing.cross_zone.enabled"] != "false"
	application := g.protocol == "HTTP" || g.protocol == "HTTPS"
	switch {
	case application && !crossZone && (zone == "" || zone == "all"): // aws-load-balancer-controller #4477
		return "", invalid("When cross-zone load balancing is disabled on this target group, you must specify an Availability Zone for IP target '%s' since it is outside of the VPC", addr)
	case zone == "": // aws-load-balancer-controller #1862, #3714
		return "", invalid("The Availability Zone is required for IP address '%s' because it is not in the VPC", addr)
	case zone != "all" && !zones[zone]:
		return "", invalid("'%s' is not a valid Availability Zone", zone)
	case application && crossZone: // any zone is treated as all (TargetDescription)
		return "all", nil
	}
	return zone, nil
}

// checkClientIP: preservation of client addresses needs targets inside the
// VPC, and cannot be off for UDP (NLB user guide, client IP preservation).
func checkClientIP(g *group, addr netip.Addr) error {
	if strings.Contains(g.protocol, "UDP") || g.attrs["preserve_client_ip.enabled"] == "true" {
		return invalid("Client IP preservation is not possible for IP address '%s' because it is not in the VPC", addr)
	}
	return nil
}
