package cloudtest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Layout is what Seed builds: one VPC with a subnet per zone, one application
// load balancer with an HTTP listener on port 80, whose default action is the
// first group, and one catch-all rule (path-pattern *) over all groups.
type Layout struct {
	VPC    netip.Prefix  // zero means 10.0.0.0/16; each zone gets a /24 of it
	Zones  []string      // nil means two zones of the region
	Groups []GroupLayout // at least one
	// Stickiness of the rule's forward action; 0 means off. Whole seconds.
	Stickiness time.Duration
	Tables     []string              // ids of route tables, rtb-...
	ENIs       map[string]netip.Addr // id to private address
}

// GroupLayout is one target group. Times are AWS's, before TimeScale.
type GroupLayout struct {
	Name               string
	Weight             int    // in the rule
	Detached           bool   // not in the rule
	Protocol           string // "" means HTTP; others are not put into the rule
	Port               uint16 // default port of targets; 0 means 80
	CheckProtocol      string // HTTP (default) or TCP
	CheckPath          string
	Interval           time.Duration // 0 means 5 s
	Timeout            time.Duration // 0 means 2 s
	Rise, Fall         int           // 0 means 2
	DeregistrationWait time.Duration // 0 means none
	CrossZoneOff       bool
	Targets            []netip.AddrPort // zone all when outside the subnets
}

// Seeded names what Seed built.
type Seeded struct {
	VPC          string
	Subnets      []string
	LoadBalancer string
	Listener     string
	Rule         string
	DefaultRule  string
	Groups       map[string]string // name to ARN
	Tables       []string
}

// AddVPC adds a VPC with the given id.
func (c *Cloud) AddVPC(id string, cidr netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vpcs[id] = cidr.Masked()
}

// AddSubnet adds a subnet.
func (c *Cloud) AddSubnet(id, vpc, zone string, cidr netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subnets[id] = &subnet{id: id, vpc: vpc, zone: zone, cidr: cidr.Masked()}
}

// AddENI adds, or moves to another address, a network interface that routes
// may lead to.
func (c *Cloud) AddENI(id string, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enis[id] = &eni{id, addr}
}

// RemoveENI takes an interface away; its routes become blackholes.
func (c *Cloud) RemoveENI(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.enis, id)
}

// AddRouteTable adds a route table with the local route of its VPC.
func (c *Cloud) AddRouteTable(id, vpc string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	local := c.vpcs[vpc]
	c.tables[id] = &routeTable{id: id, vpc: vpc, routes: map[netip.Prefix]*route{local: {dest: local, gateway: "local"}}}
}

// AddGatewayRoute adds a route to something that is not an ENI (igw-, tgw-).
func (c *Cloud) AddGatewayRoute(table string, dest netip.Prefix, gateway string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables[table].routes[dest.Masked()] = &route{dest: dest.Masked(), gateway: gateway}
}

// NextHop tells where a table sends an address now (longest prefix); ok is
// false without a living ENI.
func (c *Cloud) NextHop(table string, dst netip.Addr) (eni string, addr netip.Addr, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tables[table]
	if t == nil {
		return "", netip.Addr{}, false
	}
	best := (*route)(nil)
	for p, r := range t.routes {
		if p.Contains(dst) && (best == nil || p.Bits() > best.dest.Bits()) {
			best = r
		}
	}
	if best == nil || c.enis[best.eni] == nil {
		return "", netip.Addr{}, false
	}
	return best.eni, c.enis[best.eni].addr, true
}

// Seed builds a layout by the same code that answers API calls, so that it
// obeys the same rules. Names are vpc-1, subnet-1 and so on.
func (c *Cloud) Seed(l Layout) (Seeded, error) {
	if !l.VPC.IsValid() {
		l.VPC = netip.MustParsePrefix("10.0.0.0/16")
	}
	if l.Zones == nil {
		l.Zones = []string{c.opts.Region + "a", c.opts.Region + "b"}
	}
	s := Seeded{VPC: "vpc-1", Groups: map[string]string{}, Tables: l.Tables}
	c.AddVPC(s.VPC, l.VPC)
	base := l.VPC.Masked().Addr().As4()
	for i, zone := range l.Zones {
		id := "subnet-" + strconv.Itoa(i+1)
		base[2] = byte(i + 1)
		c.AddSubnet(id, s.VPC, zone, netip.PrefixFrom(netip.AddrFrom4(base), 24))
		s.Subnets = append(s.Subnets, id)
	}
	for _, id := range slices.Sorted(maps.Keys(l.ENIs)) {
		c.AddENI(id, l.ENIs[id])
	}
	for _, id := range l.Tables {
		c.AddRouteTable(id, s.VPC)
	}
	for _, g := range l.Groups {
		if err := c.seedGroup(&s, g); err != nil {
			return s, err
		}
	}
	if err := c.seedBalancer(&s, l); err != nil {
		return s, err
	}
	for _, g := range l.Groups {
		if err := c.seedTargets(s.Groups[g.Name], g.Targets); err != nil {
			return s, err
		}
	}
	c.poke()
	return s, nil
}

func (c *Cloud) seedGroup(s *Seeded, g GroupLayout) error {
	secs := func(d, def time.Duration) string { return strconv.Itoa(int(cmp.Or(d, def) / time.Second)) }
	args := []string{
		"Name", g.Name, "VpcId", s.VPC, "TargetType", "ip",
		"Protocol", cmp.Or(g.Protocol, "HTTP"), "Port", strconv.Itoa(int(cmp.Or(g.Port, 80))),
		"HealthCheckIntervalSeconds", secs(g.Interval, 5*time.Second),
		"HealthCheckTimeoutSeconds", secs(g.Timeout, 2*time.Second),
		"HealthyThresholdCount", strconv.Itoa(cmp.Or(g.Rise, 2)),
		"UnhealthyThresholdCount", strconv.Itoa(cmp.Or(g.Fall, 2)),
	}
	if g.CheckProtocol != "" {
		args = append(args, "HealthCheckProtocol", g.CheckProtocol)
	}
	if g.CheckPath != "" {
		args = append(args, "HealthCheckPath", g.CheckPath)
	}
	out, err := c.call("elasticloadbalancing", "CreateTargetGroup", args...)
	if err != nil {
		return err
	}
	arn := out.(xGroups).TargetGroups.List[0].TargetGroupArn
	s.Groups[g.Name] = arn
	attrs := []string{
		"TargetGroupArn", arn,
		"Attributes.member.1.Key", "deregistration_delay.timeout_seconds",
		"Attributes.member.1.Value", secs(g.DeregistrationWait, 0),
	}
	if g.CrossZoneOff {
		attrs = append(attrs, "Attributes.member.2.Key", "load_balancing.cross_zone.enabled", "Attributes.member.2.Value", "false")
	}
	_, err = c.call("elasticloadbalancing", "ModifyTargetGroupAttributes", attrs...)
	return err
}

func (c *Cloud) seedBalancer(s *Seeded, l Layout) error {
	if len(l.Groups) == 0 {
		return fmt.Errorf("seed: a layout needs a group")
	}
	args := []string{"Name", "lb-1", "Type", "application"}
	for i, id := range s.Subnets {
		args = append(args, fmt.Sprintf("Subnets.member.%d", i+1), id)
	}
	out, err := c.call("elasticloadbalancing", "CreateLoadBalancer", args...)
	if err != nil {
		return err
	}
	s.LoadBalancer = out.(xLoadBalancers).LoadBalancers.List[0].LoadBalancerArn
	out, err = c.call("elasticloadbalancing", "CreateListener",
		"LoadBalancerArn", s.LoadBalancer, "Protocol", "HTTP", "Port", "80",
		"DefaultActions.member.1.Type", "forward", "DefaultActions.member.1.TargetGroupArn", s.Groups[l.Groups[0].Name])
	if err != nil {
		return err
	}
	s.Listener = out.(xListeners).Listeners.List[0].ListenerArn
	c.mu.Lock()
	s.DefaultRule = c.defaultRule(s.Listener).arn
	c.mu.Unlock()

	args = []string{
		"ListenerArn", s.Listener, "Priority", "100", "Actions.member.1.Type", "forward",
		"Conditions.member.1.Field", "path-pattern", "Conditions.member.1.Values.member.1", "*",
	}
	for i, g := range l.Groups {
		if g.Detached || cmp.Or(g.Protocol, "HTTP") != "HTTP" {
			continue
		}
		at := fmt.Sprintf("Actions.member.1.ForwardConfig.TargetGroups.member.%d.", i+1)
		args = append(args, at+"TargetGroupArn", s.Groups[g.Name], at+"Weight", strconv.Itoa(g.Weight))
	}
	if l.Stickiness > 0 {
		at := "Actions.member.1.ForwardConfig.TargetGroupStickinessConfig."
		args = append(args, at+"Enabled", "true", at+"DurationSeconds", strconv.Itoa(int(l.Stickiness/time.Second)))
	}
	if out, err = c.call("elasticloadbalancing", "CreateRule", args...); err != nil {
		return err
	}
	s.Rule = out.(xRules).Rules.List[0].RuleArn
	return nil
}

func (c *Cloud) seedTargets(group string, targets []netip.AddrPort) error {
	if len(targets) == 0 {
		return nil
	}
	c.mu.Lock()
	inside := func(a netip.Addr) bool {
		for _, s := range c.subnets {
			if s.cidr.Contains(a) {
				return true
			}
		}
		return false
	}
	args := []string{"TargetGroupArn", group}
	for i, t := range targets {
		at := fmt.Sprintf("Targets.member.%d.", i+1)
		args = append(args, at+"Id", t.Addr().String(), at+"Port", strconv.Itoa(int(t.Port())))
		if !inside(t.Addr()) {
			args = append(args, at+"AvailabilityZone", "all")
		}
	}
	c.mu.Unlock()
	_, err := c.call("elasticloadbalancing", "RegisterTargets", args...)
	return err
}
