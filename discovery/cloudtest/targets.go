package cloudtest

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Quotas of the ALB user guide and the API reference.
const (
	maxTargetsPerGroup  = 1000 // TooManyTargets
	maxTargetsPerALB    = 1000 // TooManyTargets
	maxPortsPerTargetID = 100  // TooManyRegistrationsForTargetId; the number is a guess
)

type wantedTarget struct {
	key  targetKey
	zone string
}

// parseTargets reads the targets of a call; a target without a port has the
// group's (API reference, TargetDescription).
func parseTargets(f form, g *group) ([]wantedTarget, error) {
	var out []wantedTarget
	for _, e := range f.list("Targets.member") {
		addr, err := netip.ParseAddr(e.get("Id"))
		if err != nil {
			return nil, invalid("The IP address '%s' is not a valid IPv4 address", e.get("Id"))
		}
		port, err := e.int("Port", g.port, 1, 65535)
		if err != nil {
			return nil, err
		}
		out = append(out, wantedTarget{targetKey{addr, uint16(port)}, e.get("AvailabilityZone")})
	}
	if len(out) == 0 {
		return nil, invalid("At least one target must be specified")
	}
	return out, nil
}

// registerTargets takes the whole batch or nothing. A registered target again
// is a success; one that drains is registered anew.
func (c *Cloud) registerTargets(f form) (any, error) {
	g, err := c.group(f)
	if err != nil {
		return nil, err
	}
	wanted, err := parseTargets(f, g)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	count, ports := map[targetKey]bool{}, map[netip.Addr]map[uint16]bool{}
	note := func(k targetKey) {
		count[k] = true
		if ports[k.addr] == nil {
			ports[k.addr] = map[uint16]bool{}
		}
		ports[k.addr][k.port] = true
	}
	for _, t := range g.sorted(now) {
		if !t.draining() {
			note(t.key)
		}
	}
	for i, w := range wanted {
		if wanted[i].zone, err = c.checkZone(g, w.key.addr, w.zone); err != nil {
			return nil, err
		}
		note(w.key)
		if len(ports[w.key.addr]) > maxPortsPerTargetID {
			return nil, fail(400, "TooManyRegistrationsForTargetId", "The maximum number of registrations for target '%s' has been reached", w.key.addr)
		}
	}
	if len(count) > maxTargetsPerGroup || len(count)+c.otherTargets(g) > maxTargetsPerALB {
		return nil, fail(400, "TooManyTargets", "The maximum number of targets has been reached")
	}
	for _, w := range wanted {
		if t := g.targets[w.key]; t != nil && !t.draining() {
			t.zone = w.zone
			continue
		}
		g.targets[w.key] = &target{
			key: w.key, zone: w.zone, state: "initial", reason: "Elb.RegistrationInProgress", next: now,
		}
	}
	return nil, nil
}

// otherTargets counts the targets of the other groups of the same balancer.
func (c *Cloud) otherTargets(g *group) int {
	lbs, n := c.lbsOf(g.arn), 0
	if len(lbs) == 0 {
		return 0
	}
	for arn, o := range c.groups {
		if o != g && slices.Contains(c.lbsOf(arn), lbs[0]) {
			for _, t := range o.targets {
				if !t.draining() {
					n++
				}
			}
		}
	}
	return n
}

// deregisterTargets drains targets for deregistration_delay. An unknown
// target is a success (API reference, DeregisterTargets).
func (c *Cloud) deregisterTargets(f form) (any, error) {
	g, err := c.group(f)
	if err != nil {
		return nil, err
	}
	wanted, err := parseTargets(f, g)
	if err != nil {
		return nil, err
	}
	secs, _ := strconv.Atoi(g.attrs["deregistration_delay.timeout_seconds"]) // checked when set
	until := time.Now().Add(c.scaled(time.Duration(secs) * time.Second))
	used := len(c.lbsOf(g.arn)) > 0
	for _, w := range wanted {
		t := g.targets[w.key]
		switch {
		case t == nil || t.draining():
		case !used || secs == 0: // nobody sends to it: nothing to drain
			delete(g.targets, w.key)
		default:
			t.drainUntil = until
		}
	}
	return nil, nil
}

type xTarget struct {
	ID               string `xml:"Id"`
	Port             int    `xml:"Port"`
	AvailabilityZone string `xml:"AvailabilityZone,omitempty"`
}

type xHealth struct {
	State       string `xml:"State"`
	Reason      string `xml:"Reason,omitempty"`
	Description string `xml:"Description,omitempty"`
}

type xTargetHealth struct {
	Target          xTarget `xml:"Target"`
	HealthCheckPort string  `xml:"HealthCheckPort,omitempty"`
	TargetHealth    xHealth `xml:"TargetHealth"`
}

type xTargetHealths struct {
	List members[xTargetHealth] `xml:"TargetHealthDescriptions"`
}

func (c *Cloud) describeTargetHealth(f form) (any, error) {
	g, err := c.group(f)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var out xTargetHealths
	add := func(key targetKey, zone, state, reason string) {
		port := g.check.port
		if port == "traffic-port" {
			port = strconv.Itoa(int(key.port))
		}
		out.List.List = append(out.List.List, xTargetHealth{
			xTarget{key.addr.String(), int(key.port), zone}, port, xHealth{state, reason, describe[reason]},
		})
	}
	all := g.sorted(now)
	if len(f.list("Targets.member")) == 0 {
		for _, t := range all {
			state, reason := c.health(g, t)
			add(t.key, t.zone, state, reason)
		}
		return out, nil
	}
	wanted, err := parseTargets(f, g)
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		if t := g.targets[w.key]; t != nil {
			state, reason := c.health(g, t)
			add(t.key, t.zone, state, reason)
			continue
		}
		add(w.key, "", "unused", "Target.NotRegistered")
	}
	return out, nil
}

// describe has ELB's sentences for reasons (API reference, TargetHealth).
var describe = map[string]string{
	"Elb.RegistrationInProgress":      "Target registration is in progress",
	"Elb.InitialHealthChecking":       "Initial health checks in progress",
	"Target.NotInUse":                 "Target group is not configured to receive traffic from the load balancer",
	"Target.NotRegistered":            "Target is not registered to the target group",
	"Target.DeregistrationInProgress": "Target deregistration is in progress",
	"Target.Timeout":                  "Request timed out",
	"Target.FailedHealthChecks":       "Health checks failed",
	"Target.ResponseCodeMismatch":     "Health checks failed with a code outside of the success codes",
}

// health is the state that the API tells of a target.
func (c *Cloud) health(g *group, t *target) (state, reason string) {
	switch {
	case t.draining():
		return "draining", "Target.DeregistrationInProgress"
	case t.pinned:
		return t.state, t.reason
	case !c.inUse(g, t):
		return "unused", "Target.NotInUse"
	}
	return t.state, t.reason
}

// inUse: a group on no rule, or a target in a zone that its balancer does not
// have, is unused (API reference, TargetHealth.Reason).
func (c *Cloud) inUse(g *group, t *target) bool {
	for _, arn := range c.lbsOf(g.arn) {
		if t.zone == "all" || slices.Contains(c.balancers[arn].zones(), t.zone) {
			return true
		}
	}
	return false
}
