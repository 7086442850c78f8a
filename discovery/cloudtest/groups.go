package cloudtest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"
)

type xGroup struct {
	TargetGroupArn             string          `xml:"TargetGroupArn"`
	TargetGroupName            string          `xml:"TargetGroupName"`
	Protocol                   string          `xml:"Protocol"`
	Port                       int             `xml:"Port"`
	VpcID                      string          `xml:"VpcId"`
	TargetType                 string          `xml:"TargetType"`
	HealthCheckEnabled         bool            `xml:"HealthCheckEnabled"`
	HealthCheckProtocol        string          `xml:"HealthCheckProtocol"`
	HealthCheckPort            string          `xml:"HealthCheckPort"`
	HealthCheckPath            string          `xml:"HealthCheckPath,omitempty"`
	HealthCheckIntervalSeconds int             `xml:"HealthCheckIntervalSeconds"`
	HealthCheckTimeoutSeconds  int             `xml:"HealthCheckTimeoutSeconds"`
	HealthyThresholdCount      int             `xml:"HealthyThresholdCount"`
	UnhealthyThresholdCount    int             `xml:"UnhealthyThresholdCount"`
	LoadBalancerArns           members[string] `xml:"LoadBalancerArns"`
}

type xGroups struct {
	TargetGroups members[xGroup] `xml:"TargetGroups"`
}

func (c *Cloud) wireGroup(g *group) xGroup {
	return xGroup{
		TargetGroupArn: g.arn, TargetGroupName: g.name, Protocol: g.protocol, Port: g.port, VpcID: g.vpc,
		TargetType: "ip", HealthCheckEnabled: true,
		HealthCheckProtocol: g.check.protocol, HealthCheckPort: g.check.port, HealthCheckPath: g.check.path,
		HealthCheckIntervalSeconds: int(g.check.interval / time.Second),
		HealthCheckTimeoutSeconds:  int(g.check.timeout / time.Second),
		HealthyThresholdCount:      g.check.healthy, UnhealthyThresholdCount: g.check.unhealthy,
		LoadBalancerArns: members[string]{c.lbsOf(g.arn)},
	}
}

func (c *Cloud) createTargetGroup(f form) (any, error) {
	g := &group{name: f.get("Name"), protocol: f.get("Protocol"), vpc: f.get("VpcId"), targets: map[targetKey]*target{}}
	if err := checkName("Target group", g.name); err != nil {
		return nil, err
	}
	for _, o := range c.groups {
		if o.name == g.name {
			return nil, fail(400, "DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", g.name)
		}
	}
	if f.get("TargetType") != "ip" {
		return nil, invalid("TargetType '%s' is not ip, the only one this fake knows", f.get("TargetType"))
	}
	if _, ok := c.vpcs[g.vpc]; !ok {
		return nil, invalid("The VPC ID '%s' is not found", g.vpc)
	}
	application := g.protocol == "HTTP" || g.protocol == "HTTPS"
	if !application && !slices.Contains([]string{"TCP", "TLS", "UDP", "TCP_UDP"}, g.protocol) {
		return nil, invalid("Protocol '%s' is not supported", g.protocol)
	}
	var err error
	if g.port, err = f.int("Port", 0, 1, 65535); err != nil {
		return nil, err
	}
	if g.port == 0 {
		return nil, invalid("A port must be specified")
	}
	if g.check, err = parseCheck(f, application); err != nil {
		return nil, err
	}
	g.attrs = map[string]string{ // API reference, TargetGroupAttribute: the defaults
		"deregistration_delay.timeout_seconds":                                           "300",
		"stickiness.enabled":                                                             "false",
		"load_balancing.cross_zone.enabled":                                              "use_load_balancer_configuration",
		"target_group_health.dns_failover.minimum_healthy_targets.count":                 "1",
		"target_group_health.dns_failover.minimum_healthy_targets.percentage":            "off",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "1",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
	}
	if application {
		g.attrs["slow_start.duration_seconds"] = "0"
		g.attrs["load_balancing.algorithm.type"] = "round_robin"
	} else {
		g.attrs["proxy_protocol_v2.enabled"] = "false"
		g.attrs["preserve_client_ip.enabled"] = "false"
	}
	g.arn = c.arn("targetgroup", g.name, c.newID())
	c.groups[g.arn] = g
	return xGroups{members[xGroup]{[]xGroup{c.wireGroup(g)}}}, nil
}

// parseCheck: bounds and defaults of the API reference, CreateTargetGroup.
func parseCheck(f form, application bool) (healthCheck, error) {
	h := healthCheck{
		protocol: f.get("HealthCheckProtocol"), path: f.get("HealthCheckPath"),
		port: cmp.Or(f.get("HealthCheckPort"), "traffic-port"), matcher: cmp.Or(f.get("Matcher.HttpCode"), "200"),
	}
	if application {
		h.protocol = cmp.Or(h.protocol, "HTTP")
	}
	h.protocol = cmp.Or(h.protocol, "TCP")
	if h.protocol == "HTTP" {
		h.path = cmp.Or(h.path, "/")
	}
	if h.protocol != "HTTP" && (h.protocol != "TCP" || application) {
		return h, invalid("Health check protocol '%s' is not supported", h.protocol)
	}
	if _, err := strconv.ParseUint(h.port, 10, 16); err != nil && h.port != "traffic-port" {
		return h, invalid("Health check port '%s' must be 'traffic-port' or a port number", h.port)
	}
	secs, err := f.int("HealthCheckIntervalSeconds", 30, 5, 300)
	if err != nil {
		return h, err
	}
	timeout, err := f.int("HealthCheckTimeoutSeconds", 5, 2, 120)
	if err != nil {
		return h, err
	}
	if !f.has("HealthCheckTimeoutSeconds") && timeout >= secs {
		timeout = secs - 1
	}
	if timeout >= secs {
		return h, invalid("Health check interval must be greater than the timeout")
	}
	h.interval, h.timeout = time.Duration(secs)*time.Second, time.Duration(timeout)*time.Second
	if h.healthy, err = f.int("HealthyThresholdCount", 5, 2, 10); err != nil {
		return h, err
	}
	h.unhealthy, err = f.int("UnhealthyThresholdCount", 2, 2, 10)
	return h, err
}

func (c *Cloud) describeTargetGroups(f form) (any, error) {
	var out xGroups
	wanted, names, lb := f.strings("TargetGroupArns.member"), f.strings("Names.member"), f.get("LoadBalancerArn")
	for _, arn := range wanted {
		if c.groups[arn] == nil {
			return nil, fail(400, "TargetGroupNotFound", "One or more target groups not found")
		}
	}
	for _, arn := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[arn]
		if selected(wanted, arn) && selected(names, g.name) && (lb == "" || slices.Contains(c.lbsOf(arn), lb)) {
			out.TargetGroups.List = append(out.TargetGroups.List, c.wireGroup(g))
		}
	}
	if len(names) > len(out.TargetGroups.List) {
		return nil, fail(400, "TargetGroupNotFound", "One or more target groups not found")
	}
	return out, nil
}

func (c *Cloud) group(f form) (*group, error) {
	g := c.groups[f.get("TargetGroupArn")]
	if g == nil {
		return nil, fail(400, "TargetGroupNotFound", "One or more target groups not found")
	}
	return g, nil
}
