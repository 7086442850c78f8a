package cloudtest

import (
	"maps"
	"slices"
	"strconv"
)

type xAttribute struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type xAttributes struct {
	Attributes members[xAttribute] `xml:"Attributes"`
}

func (g *group) wireAttributes() xAttributes {
	var out xAttributes
	for _, k := range slices.Sorted(maps.Keys(g.attrs)) {
		out.Attributes.List = append(out.Attributes.List, xAttribute{k, g.attrs[k]})
	}
	return out
}

func (c *Cloud) describeTargetGroupAttributes(f form) (any, error) {
	g, err := c.group(f)
	if err != nil {
		return nil, err
	}
	return g.wireAttributes(), nil
}

// modifyTargetGroupAttributes takes the keys that the group already has, with
// the value ranges of the API reference (TargetGroupAttribute).
func (c *Cloud) modifyTargetGroupAttributes(f form) (any, error) {
	g, err := c.group(f)
	if err != nil {
		return nil, err
	}
	set := maps.Clone(g.attrs)
	for _, e := range f.list("Attributes.member") {
		k, v := e.get("Key"), e.get("Value")
		if _, ok := set[k]; !ok {
			return nil, invalid("Target group attribute key '%s' is not recognized", k)
		}
		if !attributeValue(k, v) {
			return nil, invalid("Target group attribute value '%s' is not valid for '%s'", v, k)
		}
		set[k] = v
	}
	g.attrs = set
	return g.wireAttributes(), nil
}

func attributeValue(key, v string) bool {
	n, err := strconv.Atoi(v)
	within := func(least, most int) bool { return err == nil && n >= least && n <= most }
	flag := v == "true" || v == "false"
	switch key {
	case "deregistration_delay.timeout_seconds":
		return within(0, 3600)
	case "slow_start.duration_seconds":
		return within(0, 0) || within(30, 900)
	case "load_balancing.cross_zone.enabled":
		return flag || v == "use_load_balancer_configuration"
	case "load_balancing.algorithm.type":
		return slices.Contains([]string{"round_robin", "least_outstanding_requests", "weighted_random"}, v)
	case "target_group_health.dns_failover.minimum_healthy_targets.count":
		return v == "off" || within(1, maxTargetsPerGroup)
	case "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":
		return within(1, maxTargetsPerGroup) // fail-open cannot be switched off
	case "target_group_health.dns_failover.minimum_healthy_targets.percentage",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage":
		return v == "off" || within(1, 100)
	}
	return flag
}
