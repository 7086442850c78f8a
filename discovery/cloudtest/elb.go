package cloudtest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"
)

var elbActions = map[string]handler{
	"CreateLoadBalancer":            (*Cloud).createLoadBalancer,
	"DescribeLoadBalancers":         (*Cloud).describeLoadBalancers,
	"CreateListener":                (*Cloud).createListener,
	"DescribeListeners":             (*Cloud).describeListeners,
	"ModifyListener":                (*Cloud).modifyListener,
	"CreateRule":                    (*Cloud).createRule,
	"DescribeRules":                 (*Cloud).describeRules,
	"ModifyRule":                    (*Cloud).modifyRule,
	"CreateTargetGroup":             (*Cloud).createTargetGroup,
	"DescribeTargetGroups":          (*Cloud).describeTargetGroups,
	"DescribeTargetGroupAttributes": (*Cloud).describeTargetGroupAttributes,
	"ModifyTargetGroupAttributes":   (*Cloud).modifyTargetGroupAttributes,
	"RegisterTargets":               (*Cloud).registerTargets,
	"DeregisterTargets":             (*Cloud).deregisterTargets,
	"DescribeTargetHealth":          (*Cloud).describeTargetHealth,
}

type xState struct {
	Code string `xml:"Code"`
}

type xZone struct {
	ZoneName string `xml:"ZoneName"`
	SubnetID string `xml:"SubnetId"`
}

type xLoadBalancer struct {
	LoadBalancerArn   string         `xml:"LoadBalancerArn"`
	LoadBalancerName  string         `xml:"LoadBalancerName"`
	Type              string         `xml:"Type"`
	Scheme            string         `xml:"Scheme"`
	VpcID             string         `xml:"VpcId"`
	CreatedTime       string         `xml:"CreatedTime"`
	State             xState         `xml:"State"`
	AvailabilityZones members[xZone] `xml:"AvailabilityZones"`
}

type xLoadBalancers struct {
	LoadBalancers members[xLoadBalancer] `xml:"LoadBalancers"`
}

func (l *loadBalancer) wire() xLoadBalancer {
	out := xLoadBalancer{
		LoadBalancerArn: l.arn, LoadBalancerName: l.name, Type: l.typ, Scheme: "internal", VpcID: l.vpc,
		CreatedTime: l.created.UTC().Format("2006-01-02T15:04:05.000Z"), State: xState{"active"},
	}
	for _, s := range l.subnets {
		out.AvailabilityZones.List = append(out.AvailabilityZones.List, xZone{s.zone, s.id})
	}
	return out
}

func (c *Cloud) createLoadBalancer(f form) (any, error) {
	l := &loadBalancer{name: f.get("Name"), typ: cmp.Or(f.get("Type"), "application"), created: time.Now()}
	if err := checkName("Load balancer", l.name); err != nil {
		return nil, err
	}
	if l.typ != "application" && l.typ != "network" {
		return nil, invalid("Type '%s' must be application or network", l.typ)
	}
	for _, o := range c.balancers {
		if o.name == l.name { // API reference, CreateLoadBalancer
			return nil, fail(400, "DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists", l.name)
		}
	}
	for _, id := range f.strings("Subnets.member") {
		s := c.subnets[id]
		if s == nil {
			return nil, fail(400, "SubnetNotFound", "The subnet ID '%s' does not exist", id)
		}
		if l.vpc != "" && l.vpc != s.vpc {
			return nil, fail(400, "InvalidSubnet", "All subnets must belong to the same VPC")
		}
		if slices.Contains(l.zones(), s.zone) {
			return nil, fail(400, "InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		l.vpc = s.vpc
		l.subnets = append(l.subnets, s)
	}
	// ALB user guide: subnets of at least two zones. NLB: one is enough.
	if len(l.subnets) == 0 || l.typ == "application" && len(l.subnets) < 2 {
		return nil, invalid("At least two subnets in two different Availability Zones must be specified")
	}
	kind := map[string]string{"application": "app", "network": "net"}[l.typ]
	l.arn = c.arn("loadbalancer", kind, l.name, c.newID())
	c.balancers[l.arn] = l
	return xLoadBalancers{members[xLoadBalancer]{[]xLoadBalancer{l.wire()}}}, nil
}

func (c *Cloud) describeLoadBalancers(f form) (any, error) {
	var out xLoadBalancers
	wanted, names := f.strings("LoadBalancerArns.member"), f.strings("Names.member")
	for _, arn := range wanted {
		if c.balancers[arn] == nil {
			return nil, fail(400, "LoadBalancerNotFound", "Load balancer '%s' not found", arn)
		}
	}
	for _, arn := range slices.Sorted(maps.Keys(c.balancers)) {
		l := c.balancers[arn]
		if selected(wanted, arn) && selected(names, l.name) {
			out.LoadBalancers.List = append(out.LoadBalancers.List, l.wire())
		}
	}
	if len(names) > len(out.LoadBalancers.List) {
		return nil, fail(400, "LoadBalancerNotFound", "One or more load balancers not found")
	}
	return out, nil
}

type xListener struct {
	ListenerArn     string          `xml:"ListenerArn"`
	LoadBalancerArn string          `xml:"LoadBalancerArn"`
	Port            int             `xml:"Port"`
	Protocol        string          `xml:"Protocol"`
	DefaultActions  members[action] `xml:"DefaultActions"`
}

type xListeners struct {
	Listeners members[xListener] `xml:"Listeners"`
}

func (c *Cloud) wireListener(l *listener) xListener {
	return xListener{l.arn, l.lb, l.port, l.protocol, members[action]{c.defaultRule(l.arn).actions}}
}

func (c *Cloud) createListener(f form) (any, error) {
	lb := c.balancers[f.get("LoadBalancerArn")]
	if lb == nil {
		return nil, fail(400, "LoadBalancerNotFound", "Load balancer '%s' not found", f.get("LoadBalancerArn"))
	}
	port, err := f.int("Port", 0, 1, 65535)
	if err != nil {
		return nil, err
	}
	// API reference, CreateListener: the protocols of each type of balancer.
	protocols := map[string][]string{"application": {"HTTP", "HTTPS"}, "network": {"TCP", "TLS", "UDP", "TCP_UDP"}}
	l := &listener{lb: lb.arn, protocol: f.get("Protocol"), port: port}
	if port == 0 || !slices.Contains(protocols[lb.typ], l.protocol) {
		return nil, invalid("A port and one of the protocols %v must be specified", protocols[lb.typ])
	}
	for _, o := range c.listeners {
		if o.lb == l.lb && o.port == l.port {
			return nil, fail(400, "DuplicateListener", "A listener already exists on this port for this load balancer '%s'", lb.arn)
		}
	}
	r := &rule{}
	if err := c.parseActions(f, "DefaultActions", lb, r); err != nil {
		return nil, err
	}
	l.arn = c.arn("listener", suffix(lb.arn), c.newID())
	r.listener, r.arn = l.arn, c.arn("listener-rule", suffix(l.arn), c.newID())
	r.history[0].from = time.Time{} // what is new works at once
	c.listeners[l.arn], c.rules[r.arn] = l, r
	return xListeners{members[xListener]{[]xListener{c.wireListener(l)}}}, nil
}

func (c *Cloud) describeListeners(f form) (any, error) {
	var out xListeners
	wanted, lb := f.strings("ListenerArns.member"), f.get("LoadBalancerArn")
	if len(wanted) == 0 && lb == "" {
		return nil, invalid("You must specify either listener ARNs or a load balancer ARN")
	}
	if lb != "" && c.balancers[lb] == nil {
		return nil, fail(400, "LoadBalancerNotFound", "Load balancer '%s' not found", lb)
	}
	for _, arn := range wanted {
		if c.listeners[arn] == nil {
			return nil, fail(400, "ListenerNotFound", "One or more listeners not found")
		}
	}
	for _, arn := range slices.Sorted(maps.Keys(c.listeners)) {
		l := c.listeners[arn]
		if selected(wanted, arn) && (lb == "" || lb == l.lb) {
			out.Listeners.List = append(out.Listeners.List, c.wireListener(l))
		}
	}
	return out, nil
}

func (c *Cloud) modifyListener(f form) (any, error) {
	l := c.listeners[f.get("ListenerArn")]
	if l == nil {
		return nil, fail(400, "ListenerNotFound", "Listener '%s' not found", f.get("ListenerArn"))
	}
	// API reference, ModifyListener: what is omitted stays, a list that is
	// sent replaces the whole list.
	if len(f.list("DefaultActions.member")) > 0 {
		if err := c.parseActions(f, "DefaultActions", c.balancers[l.lb], c.defaultRule(l.arn)); err != nil {
			return nil, err
		}
	}
	return xListeners{members[xListener]{[]xListener{c.wireListener(l)}}}, nil
}

type xRule struct {
	RuleArn    string             `xml:"RuleArn"`
	Priority   string             `xml:"Priority"`
	Conditions members[condition] `xml:"Conditions"`
	Actions    members[action]    `xml:"Actions"`
	IsDefault  bool               `xml:"IsDefault"`
}

type xRules struct {
	Rules members[xRule] `xml:"Rules"`
}

func (r *rule) wire() xRule {
	out := xRule{RuleArn: r.arn, Priority: strconv.Itoa(r.priority), IsDefault: r.isDefault()}
	if r.isDefault() {
		out.Priority = "default"
	}
	out.Conditions.List, out.Actions.List = r.conditions, r.actions
	return out
}

func (c *Cloud) createRule(f form) (any, error) {
	l := c.listeners[f.get("ListenerArn")]
	if l == nil {
		return nil, fail(400, "ListenerNotFound", "Listener '%s' not found", f.get("ListenerArn"))
	}
	lb := c.balancers[l.lb]
	if lb.typ != "application" {
		return nil, fail(400, "OperationNotPermitted", "Rules are unsupported for Network Load Balancer listeners")
	}
	prio, err := f.int("Priority", 0, 1, 50000) // API reference, CreateRule
	if err != nil {
		return nil, err
	}
	if prio == 0 {
		return nil, invalid("A rule priority must be specified")
	}
	rules := 0
	for _, o := range c.rules {
		if o.listener == l.arn && o.priority == prio {
			return nil, fail(400, "PriorityInUse", "Priority '%d' is currently in use", prio)
		}
		if c.listeners[o.listener].lb == lb.arn && !o.isDefault() {
			rules++
		}
	}
	if rules >= 100 { // ALB user guide, quotas: 100 rules without the defaults
		return nil, fail(400, "TooManyRules", "The maximum number of rules on load balancer '%s' has been reached", lb.arn)
	}
	r := &rule{listener: l.arn, priority: prio}
	if r.conditions, err = parseConditions(f); err != nil {
		return nil, err
	}
	if err := c.parseActions(f, "Actions", lb, r); err != nil {
		return nil, err
	}
	r.arn = c.arn("listener-rule", suffix(l.arn), c.newID())
	r.history[0].from = time.Time{}
	c.rules[r.arn] = r
	return xRules{members[xRule]{[]xRule{r.wire()}}}, nil
}

func (c *Cloud) describeRules(f form) (any, error) {
	var out xRules
	wanted, l := f.strings("RuleArns.member"), f.get("ListenerArn")
	// API reference, DescribeRules: "You must specify either a listener or one
	// or more rules."
	if (len(wanted) == 0) == (l == "") {
		return nil, invalid("You must specify either a listener ARN or rule ARNs")
	}
	if l != "" && c.listeners[l] == nil {
		return nil, fail(400, "ListenerNotFound", "Listener '%s' not found", l)
	}
	for _, arn := range wanted {
		if c.rules[arn] == nil {
			return nil, fail(400, "RuleNotFound", "One or more rules not found")
		}
	}
	for _, r := range c.rulesOf(l) {
		if selected(wanted, r.arn) {
			out.Rules.List = append(out.Rules.List, r.wire())
		}
	}
	return out, nil
}

func (c *Cloud) modifyRule(f form) (any, error) {
	r := c.rules[f.get("RuleArn")]
	if r == nil {
		return nil, fail(400, "RuleNotFound", "Rule '%s' not found", f.get("RuleArn"))
	}
	// API reference, ModifyRule: "You can't modify the default rule."
	if r.isDefault() {
		return nil, fail(400, "OperationNotPermitted", "Default rule '%s' cannot be modified", r.arn)
	}
	if len(f.list("Conditions.member")) > 0 {
		conds, err := parseConditions(f)
		if err != nil {
			return nil, err
		}
		r.conditions = conds
	}
	if len(f.list("Actions.member")) > 0 {
		if err := c.parseActions(f, "Actions", c.balancers[c.listeners[r.listener].lb], r); err != nil {
			return nil, err
		}
	}
	return xRules{members[xRule]{[]xRule{r.wire()}}}, nil
}

// rulesOf returns the rules of a listener (all if "") by listener and
// priority, the default rule last.
func (c *Cloud) rulesOf(listener string) []*rule {
	var out []*rule
	for _, r := range c.rules {
		if listener == "" || r.listener == listener {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *rule) int {
		return cmp.Or(cmp.Compare(a.listener, b.listener), cmp.Compare(uint(a.priority-1), uint(b.priority-1)))
	})
	return out
}

func (c *Cloud) defaultRule(listener string) *rule {
	rules := c.rulesOf(listener)
	return rules[len(rules)-1]
}

func selected(wanted []string, s string) bool { return len(wanted) == 0 || slices.Contains(wanted, s) }
