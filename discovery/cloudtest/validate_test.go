package cloudtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestModifyRuleRules(t *testing.T) {
	tests := []struct {
		name    string
		actions func(s Seeded) []string
		code    string // "" accepted
	}{
		{"plain", func(s Seeded) []string { return forwardTo(s, "aws", "999", "idc", "0") }, ""},
		{"weight too big", func(s Seeded) []string { return forwardTo(s, "aws", "1000", "idc", "0") }, "ValidationError"},
		{"weight negative", func(s Seeded) []string { return forwardTo(s, "aws", "-1", "idc", "1") }, "ValidationError"},
		{"weight not a number", func(s Seeded) []string { return forwardTo(s, "aws", "x", "idc", "1") }, "ValidationError"},
		{"all zero", func(s Seeded) []string { return forwardTo(s, "aws", "0", "idc", "0") }, "ValidationError"},
		{"duplicate", func(s Seeded) []string { return forwardTo(s, "aws", "1", "aws", "2") }, "ValidationError"},
		{"unknown", func(s Seeded) []string { return forwardTo(s, "nobody", "1") }, "TargetGroupNotFound"},
		{"wrong protocol", func(s Seeded) []string { return forwardTo(s, "tcp", "1") }, "InvalidConfigurationRequest"},
		{"six groups", func(s Seeded) []string {
			return forwardTo(s, "aws", "1", "idc", "1", "g3", "1", "g4", "1", "g5", "1", "g6", "1")
		}, "ValidationError"},
		{"five groups", func(s Seeded) []string {
			return forwardTo(s, "aws", "1", "idc", "1", "g3", "1", "g4", "1", "g5", "1")
		}, ""},
		{"sticky without duration", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1"), "Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.Enabled", "true")
		}, "ValidationError"},
		{"sticky too long", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1"), "Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.Enabled", "true",
				"Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds", "604801")
		}, "ValidationError"},
		{"both notations differ", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1"), "Actions.member.1.TargetGroupArn", s.Groups["idc"])
		}, "ValidationError"},
		{"both notations, two groups", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1", "idc", "1"), "Actions.member.1.TargetGroupArn", s.Groups["aws"])
		}, "ValidationError"},
		{"secret kept without one", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1"), "Actions.member.1.Order", "2", "Actions.member.2.Order", "1",
				"Actions.member.2.Type", "authenticate-oidc", "Actions.member.2.AuthenticateOidcConfig.UseExistingClientSecret", "true")
		}, "ValidationError"},
		{"forward not last", func(s Seeded) []string {
			return append(forwardTo(s, "aws", "1"), "Actions.member.1.Order", "1", "Actions.member.2.Order", "2",
				"Actions.member.2.Type", "authenticate-oidc", "Actions.member.2.AuthenticateOidcConfig.ClientSecret", "x")
		}, "InvalidLoadBalancerAction"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(Options{})
			l := twoSides()
			for _, n := range []string{"g3", "g4", "g5", "g6"} {
				l.Groups = append(l.Groups, GroupLayout{Name: n, Detached: true})
			}
			l.Groups = append(l.Groups, GroupLayout{Name: "tcp", Protocol: "TCP"})
			s := seed(t, c, l)
			got := elb(t, c, "ModifyRule", append([]string{"RuleArn", s.Rule}, tt.actions(s)...)...)
			if got.Code != tt.code {
				t.Errorf("code %q (%s), want %q", got.Code, got.Message, tt.code)
			}
		})
	}
}

func forwardTo(s Seeded, groupWeights ...string) []string {
	kv := []string{"Actions.member.1.Type", "forward"}
	for i := 0; i+1 < len(groupWeights); i += 2 {
		arn := s.Groups[groupWeights[i]]
		if arn == "" {
			arn = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/nobody/1"
		}
		at := fmt.Sprintf("Actions.member.1.ForwardConfig.TargetGroups.member.%d.", i/2+1)
		kv = append(kv, at+"TargetGroupArn", arn, at+"Weight", groupWeights[i+1])
	}
	return kv
}

func TestModifyRuleRefusesDefaultAndUnknown(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	if got := weigh(t, c, s.DefaultRule, s.Groups["aws"], 1); got.Code != "OperationNotPermitted" || got.Status != 400 {
		t.Errorf("default rule: %+v", got)
	}
	if got := weigh(t, c, s.Rule+"x", s.Groups["aws"], 1); got.Code != "RuleNotFound" {
		t.Errorf("unknown rule: %+v", got)
	}
}

func TestModifyRuleReplacesWholeList(t *testing.T) {
	c := New(Options{})
	l := twoSides()
	l.Stickiness = 60e9
	s := seed(t, c, l)
	if got := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule).Body; !strings.Contains(got, "<Enabled>true</Enabled><DurationSeconds>60</DurationSeconds>") {
		t.Fatalf("stickiness was not seeded: %s", got)
	}
	weigh(t, c, s.Rule, s.Groups["aws"], 1)
	got := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule).Body
	if strings.Contains(got, "<Enabled>true") || strings.Contains(got, s.Groups["idc"]) {
		t.Errorf("what was omitted stayed: %s", got)
	}
	if strings.Count(got, "<TargetGroupArn>"+s.Groups["aws"]) != 2 {
		t.Errorf("a single group is not answered in both notations: %s", got)
	}
	// An empty list is one that was not sent.
	elb(t, c, "ModifyRule", "RuleArn", s.Rule)
	if after := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule).Body; !strings.Contains(after, s.Groups["aws"]) {
		t.Errorf("empty call changed the rule: %s", after)
	}
}

func TestRegisterTargetsRules(t *testing.T) {
	tests := []struct {
		name, group, addr, zone, code, text string
	}{
		{"overlay with all", "idc", "172.20.0.9", "all", "", ""},
		{"overlay without zone", "idc", "172.20.0.9", "", "ValidationError", "Availability Zone is required"},
		{"overlay with a zone", "idc", "172.20.0.9", "us-east-1a", "", ""},
		{"overlay with a wrong zone", "idc", "172.20.0.9", "us-east-1z", "ValidationError", "not a valid"},
		{"carrier grade", "idc", "100.64.0.9", "all", "", ""},
		{"in subnet", "idc", "10.0.1.9", "", "", ""},
		{"in subnet with all", "idc", "10.0.1.9", "all", "ValidationError", "overridden to 'all'"},
		{"in VPC outside its subnets", "idc", "10.0.200.9", "", "ValidationError", "Availability Zone is required"},
		{"public", "idc", "8.8.8.8", "all", "ValidationError", "private"},
		{"not an address", "idc", "i-123", "", "ValidationError", "valid IPv4"},
		{"cross-zone off with all", "single", "172.20.0.9", "all", "ValidationError", "cross-zone"},
		{"cross-zone off without zone", "single", "172.20.0.9", "", "ValidationError", "cross-zone"},
		{"cross-zone off with a zone", "single", "172.20.0.9", "us-east-1a", "", ""},
		{"udp and overlay", "udp", "172.20.0.9", "all", "ValidationError", "Client IP"},
		{"udp in VPC", "udp", "10.0.1.9", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(Options{})
			l := twoSides()
			l.Groups = append(l.Groups, GroupLayout{Name: "single", CrossZoneOff: true}, GroupLayout{Name: "udp", Protocol: "UDP"})
			l.Groups[2].Weight = 1
			s := seed(t, c, l)
			kv := []string{"TargetGroupArn", s.Groups[tt.group], "Targets.member.1.Id", tt.addr, "Targets.member.1.Port", "80"}
			if tt.zone != "" {
				kv = append(kv, "Targets.member.1.AvailabilityZone", tt.zone)
			}
			got := elb(t, c, "RegisterTargets", kv...)
			if got.Code != tt.code || !strings.Contains(got.Message, tt.text) {
				t.Errorf("%q %q, want %q %q", got.Code, got.Message, tt.code, tt.text)
			}
		})
	}
}

func TestRegisterTargetsQuotas(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	batch := func(from, n int) []string {
		kv := []string{"TargetGroupArn", s.Groups["idc"]}
		for i := range n {
			at := fmt.Sprintf("Targets.member.%d.", i+1)
			kv = append(kv, at+"Id", fmt.Sprintf("172.21.%d.%d", (from+i)/250, (from+i)%250), at+"AvailabilityZone", "all")
		}
		return kv
	}
	if got := elb(t, c, "RegisterTargets", batch(0, 997)...); got.Code != "" { // 997 + 2 + 1 of the other group
		t.Fatalf("%+v", got)
	}
	if got := elb(t, c, "RegisterTargets", batch(997, 1)...); got.Code != "TooManyTargets" {
		t.Errorf("one more than the quota: %+v", got)
	}
	if got := elb(t, c, "RegisterTargets", batch(0, 10)...); got.Code != "" {
		t.Errorf("the same again is no success: %+v", got)
	}
}

func TestTargetKeyIsIDAndPort(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	elb(t, c, "RegisterTargets", "TargetGroupArn", s.Groups["idc"], "Targets.member.1.Id", "172.20.0.1", "Targets.member.1.Port", "9090", "Targets.member.1.AvailabilityZone", "all")
	got := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body
	if strings.Count(got, "<Id>172.20.0.1</Id>") != 2 {
		t.Errorf("two ports of one address: %s", got)
	}
	if got := elb(t, c, "DeregisterTargets", "TargetGroupArn", s.Groups["idc"], "Targets.member.1.Id", "172.20.9.9"); got.Code != "" {
		t.Errorf("deregister unknown: %+v", got)
	}
}

func TestAttributes(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	set := func(k, v string) string {
		return elb(t, c, "ModifyTargetGroupAttributes", "TargetGroupArn", s.Groups["idc"], "Attributes.member.1.Key", k, "Attributes.member.1.Value", v).Code
	}
	for _, tt := range []struct{ key, value, code string }{
		{"deregistration_delay.timeout_seconds", "0", ""},
		{"deregistration_delay.timeout_seconds", "3601", "ValidationError"},
		{"target_group_health.dns_failover.minimum_healthy_targets.count", "off", ""},
		{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "off", "ValidationError"},
		{"slow_start.duration_seconds", "10", "ValidationError"},
		{"load_balancing.cross_zone.enabled", "maybe", "ValidationError"},
		{"bogus", "1", "ValidationError"},
	} {
		if got := set(tt.key, tt.value); got != tt.code {
			t.Errorf("%s=%s: code %q, want %q", tt.key, tt.value, got, tt.code)
		}
	}
}

func TestRoutesRules(t *testing.T) {
	c := New(Options{})
	seed(t, c, twoSides())
	c.AddGatewayRoute("rtb-a", netip.MustParsePrefix("0.0.0.0/0"), "igw-1")
	ec2 := func(action, dest, eni string) answer {
		return ask(t, c, "ec2", action, "RouteTableId", "rtb-a", "DestinationCidrBlock", dest, "NetworkInterfaceId", eni)
	}
	var hops []string
	c.OnNextHop(func(table string, p netip.Prefix, eni string, addr netip.Addr) {
		hops = append(hops, fmt.Sprint(table, " ", p, " ", eni, " ", addr))
		c.Calls() // hooks are called without the lock
	})
	for _, tt := range []struct{ action, dest, eni, code string }{
		{"ReplaceRoute", "172.20.0.0/16", "eni-1", "InvalidParameterValue"},
		{"CreateRoute", "172.20.0.0/16", "eni-9", "InvalidNetworkInterfaceID.NotFound"},
		{"CreateRoute", "172.20.5.5/16", "eni-1", ""}, // stored masked
		{"CreateRoute", "172.20.0.0/16", "eni-2", "RouteAlreadyExists"},
		{"ReplaceRoute", "172.20.5.5/16", "eni-2", "InvalidParameterValue"},
		{"ReplaceRoute", "172.20.0.0/16", "eni-2", ""},
		{"CreateRoute", "10.0.3.0/24", "eni-1", "InvalidParameterValue"},
		{"CreateRoute", "nonsense", "eni-1", "InvalidParameterValue"},
		{"DeleteRoute", "172.99.0.0/16", "", "InvalidRoute.NotFound"},
		{"ReplaceRoute", "10.0.0.0/16", "eni-1", "InvalidParameterValue"},
	} {
		if got := ec2(tt.action, tt.dest, tt.eni); got.Code != tt.code {
			t.Errorf("%s %s %s: %+v, want code %q", tt.action, tt.dest, tt.eni, got, tt.code)
		}
	}
	if got := fmt.Sprint(hops); got != "[rtb-a 172.20.0.0/16 eni-1 10.0.1.5 rtb-a 172.20.0.0/16 eni-2 10.0.2.5]" {
		t.Errorf("hooks: %s", got)
	}
	if _, addr, ok := c.NextHop("rtb-a", netip.MustParseAddr("172.20.1.1")); !ok || addr.String() != "10.0.2.5" {
		t.Errorf("next hop %v %v", addr, ok)
	}
	c.RemoveENI("eni-2")
	if got := ask(t, c, "ec2", "DescribeRouteTables", "RouteTableId.1", "rtb-a").Body; !strings.Contains(got, "<networkInterfaceId>eni-2</networkInterfaceId><origin>CreateRoute</origin><state>blackhole</state>") {
		t.Errorf("no black hole: %s", got)
	}
	if got := ask(t, c, "ec2", "DescribeRouteTables", "RouteTableId.1", "rtb-9"); got.Code != "InvalidRouteTableID.NotFound" {
		t.Errorf("%+v", got)
	}
	if got := ask(t, c, "ec2", "CreateRoute", "RouteTableId", "rtb-b", "DestinationCidrBlock", "172.20.0.0/16", "NetworkInterfaceId", "eni-1", "DryRun", "true"); got.Code != "DryRunOperation" || got.Status != 412 {
		t.Errorf("dry run: %+v", got)
	}
}

func TestSignatureIsRequired(t *testing.T) {
	tests := []struct {
		name, header, value, code string
		status                    int
	}{
		{"none", "Authorization", "", "MissingAuthenticationToken", 403},
		{"basic", "Authorization", "Basic abc", "IncompleteSignature", 400},
		{"half", "Authorization", "AWS4-HMAC-SHA256 Credential=K/20250101/us-east-1/ec2/aws4_request", "IncompleteSignature", 400},
		{"region", "Authorization", "AWS4-HMAC-SHA256 Credential=K/20250101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=00", "SignatureDoesNotMatch", 403},
		{"service", "Authorization", "AWS4-HMAC-SHA256 Credential=K/20250101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00", "SignatureDoesNotMatch", 403},
		{"date", "X-Amz-Date", "20240101T000000Z", "SignatureDoesNotMatch", 403},
		{"other API", "Authorization", "AWS4-HMAC-SHA256 Credential=K/20250101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00", "NoSuchVersion", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=DescribeRules&Version=2015-12-01"))
			sign(r, "elasticloadbalancing")
			r.Header.Set(tt.header, tt.value)
			if got := send(t, New(Options{}), r); got.Code != tt.code || got.Status != tt.status {
				t.Errorf("%+v, want %d %s", got, tt.status, tt.code)
			}
		})
	}
}
