package elb_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"drawbridge/discovery"
	"drawbridge/discovery/cloudtest"
	"drawbridge/discovery/elb"
	"drawbridge/discovery/internal/mototest"
)

// stage is an AWS with one rule over two groups (aws 70, idc 30, sticky for an
// hour) and nothing registered.
type stage struct {
	url      string
	cloud    *cloudtest.Cloud // nil on moto
	aws, idc string           // target groups
	rule     string
	def      string // the default rule
}

var mesh = netip.MustParsePrefix("172.20.0.0/16")

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func ref(s string) discovery.TargetRef {
	a := ap(s)
	return discovery.TargetRef{Addr: a.Addr(), Port: a.Port()}
}

// identity gives the SDK keys and keeps it from looking elsewhere.
func identity(t *testing.T) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(k, v)
	}
}

func client(t *testing.T, url string) elb.API {
	t.Helper()
	identity(t)
	api, err := elb.NewClient(t.Context(), elb.ClientOptions{Region: cloudtest.DefaultRegion, EndpointURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func layout() cloudtest.Layout {
	return cloudtest.Layout{
		Groups: []cloudtest.GroupLayout{
			{Name: "aws", Weight: 70, DeregistrationWait: time.Minute},
			{Name: "idc", Weight: 30, DeregistrationWait: time.Minute},
		},
		Stickiness: time.Hour,
	}
}

func onCloud(t *testing.T, l cloudtest.Layout) stage {
	t.Helper()
	c := cloudtest.New(cloudtest.Options{})
	s, err := c.Seed(l)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return stage{url: srv.URL, cloud: c, aws: s.Groups["aws"], idc: s.Groups["idc"], rule: s.Rule, def: s.DefaultRule}
}

func onMoto(t *testing.T) stage {
	t.Helper()
	s := stage{url: mototest.Start(t)}
	var subnets struct {
		List []struct {
			ID  string `xml:"subnetId"`
			VPC string `xml:"vpcId"`
		} `xml:"subnetSet>item"`
	}
	mototest.Call(t, s.url, "ec2", "2016-11-15", &subnets, "Action", "DescribeSubnets")
	call := func(out any, kv ...string) {
		t.Helper()
		mototest.Call(t, s.url, "elasticloadbalancing", "2015-12-01", out, kv...)
	}
	var lb struct {
		ARN string `xml:"CreateLoadBalancerResult>LoadBalancers>member>LoadBalancerArn"`
	}
	call(&lb, "Action", "CreateLoadBalancer", "Name", "lb-1",
		"Subnets.member.1", subnets.List[0].ID, "Subnets.member.2", subnets.List[1].ID)
	for name, arn := range map[string]*string{"aws": &s.aws, "idc": &s.idc} {
		var tg struct {
			ARN string `xml:"CreateTargetGroupResult>TargetGroups>member>TargetGroupArn"`
		}
		call(&tg, "Action", "CreateTargetGroup", "Name", name, "Protocol", "HTTP", "Port", "80", "TargetType", "ip", "VpcId", subnets.List[0].VPC)
		*arn = tg.ARN
	}
	var ls struct {
		ARN string `xml:"CreateListenerResult>Listeners>member>ListenerArn"`
	}
	call(&ls, "Action", "CreateListener", "LoadBalancerArn", lb.ARN, "Protocol", "HTTP", "Port", "80",
		"DefaultActions.member.1.Type", "forward", "DefaultActions.member.1.TargetGroupArn", s.aws)
	var r struct {
		ARN string `xml:"CreateRuleResult>Rules>member>RuleArn"`
	}
	at := "Actions.member.1.ForwardConfig."
	call(&r, "Action", "CreateRule", "ListenerArn", ls.ARN, "Priority", "100",
		"Conditions.member.1.Field", "path-pattern", "Conditions.member.1.Values.member.1", "*",
		"Actions.member.1.Type", "forward",
		at+"TargetGroups.member.1.TargetGroupArn", s.aws, at+"TargetGroups.member.1.Weight", "70",
		at+"TargetGroups.member.2.TargetGroupArn", s.idc, at+"TargetGroups.member.2.Weight", "30",
		at+"TargetGroupStickinessConfig.Enabled", "true", at+"TargetGroupStickinessConfig.DurationSeconds", "3600")
	s.rule = r.ARN
	return s
}

// weights and targets are hands whose newest report is at hand.
func weights(t *testing.T, s stage) (*elb.Weights, *[]discovery.Split) {
	got := new([]discovery.Split)
	return elb.NewWeights(elb.WeightsOptions{
		API: client(t, s.url), Report: func(x []discovery.Split) { *got = x }, Now: clock(),
	}), got
}

func targets(t *testing.T, s stage) (*elb.Targets, *[]discovery.TargetGroup) {
	got := new([]discovery.TargetGroup)
	return elb.NewTargets(elb.TargetsOptions{
		API: client(t, s.url), Report: func(x []discovery.TargetGroup) { *got = x }, Now: clock(),
	}), got
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock ticks a second a reading.
func clock() func() time.Time {
	n := 0
	return func() time.Time {
		n++
		return epoch.Add(time.Duration(n) * time.Second)
	}
}

func (s stage) splitWish(aws, idc int, sticky *time.Duration) discovery.CloudWish {
	return discovery.CloudWish{
		Write: true,
		Read:  discovery.CloudRead{Rules: []string{s.rule}},
		Splits: []discovery.SplitWish{{
			Rule: s.rule, Weights: []discovery.GroupWeight{{Group: s.aws, Weight: aws}, {Group: s.idc, Weight: idc}},
			Stickiness: sticky, Reason: discovery.ReasonSiteDark,
		}},
	}
}

func (s stage) targetWish(refs ...string) discovery.CloudWish {
	w := discovery.CloudWish{
		Write:   true,
		Read:    discovery.CloudRead{Groups: []string{s.idc}},
		Targets: []discovery.TargetWish{{Group: s.idc, Owned: mesh, Reason: discovery.ReasonServing}},
	}
	for _, r := range refs {
		w.Targets[0].Targets = append(w.Targets[0].Targets, ref(r))
	}
	return w
}

func text(w []discovery.GroupWeight, s stage) string {
	out := ""
	for _, g := range w {
		name := map[string]string{s.aws: "aws", s.idc: "idc"}[g.Group]
		out += fmt.Sprintf("%s=%d ", name, g.Weight)
	}
	return out
}

// must applies and wants success.
func must(t *testing.T, apply func(context.Context, discovery.CloudWish) (int, error), w discovery.CloudWish, changed int) {
	t.Helper()
	n, err := apply(t.Context(), w)
	if err != nil || n != changed {
		t.Fatalf("apply: %d changed, %v; want %d", n, err, changed)
	}
}

// wrote lists the writing calls that the cloud saw.
func (s stage) wrote() []string {
	var out []string
	for _, c := range s.cloud.Calls() {
		if c.Action[0] == 'M' || c.Action[0] == 'R' || c.Action[:3] == "Der" {
			out = append(out, c.Action)
		}
	}
	return out
}
