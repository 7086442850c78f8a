package elb_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
	"drawbridge/discovery/cloudtest"
	"drawbridge/discovery/elb"
)

func isErr(err, target error) bool { return errors.Is(err, target) }

// Deregistering dead targets while their weight is above zero turns half a
// loss into certain 503.
func TestPitfall01LastTargetStays(t *testing.T) {
	s := onCloud(t, layout())
	hand, got := targets(t, s)
	must(t, hand.Apply, s.targetWish("172.20.0.1:80", "172.20.0.2:80"), 2)
	for _, a := range []string{"172.20.0.1", "172.20.0.2"} {
		s.cloud.SetHealth(s.idc, ap(a+":80").Addr(), 80, "unhealthy", "Target.Timeout")
	}
	must(t, hand.Apply, s.targetWish(), 1) // one goes, one stays
	must(t, hand.Apply, s.targetWish(), 0)
	if g := (*got)[0]; g.Targets[0].State != discovery.TargetUnhealthy || g.Targets[1].State != discovery.TargetDraining {
		t.Errorf("%+v", g)
	}
}

// The last healthy target stays until a new one is healthy.
func TestPitfall01ReplaceWaitsForHealth(t *testing.T) {
	s := onCloud(t, layout())
	hand, _ := targets(t, s)
	must(t, hand.Apply, s.targetWish("172.20.0.1:80"), 1)
	s.cloud.SetHealth(s.idc, ap("172.20.0.1:80").Addr(), 80, "healthy", "")
	must(t, hand.Apply, s.targetWish("172.20.0.2:80"), 1) // registers only
	must(t, hand.Apply, s.targetWish("172.20.0.2:80"), 0)
	s.cloud.SetHealth(s.idc, ap("172.20.0.2:80").Addr(), 80, "healthy", "")
	must(t, hand.Apply, s.targetWish("172.20.0.2:80"), 1)
	want := []string{"RegisterTargets", "RegisterTargets", "DeregisterTargets"}
	if diff := cmp.Diff(want, s.wrote()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Weight zero goes with stickiness off, even if the wish forgets it.
func TestPitfall02ZeroWeightEndsStickiness(t *testing.T) {
	s := onCloud(t, layout())
	hand, got := weights(t, s)
	must(t, hand.Apply, s.splitWish(100, 0, nil), 1)
	if r := (*got)[0]; r.Sticky || text(r.Weights, s) != "aws=100 idc=0 " {
		t.Errorf("%+v", r)
	}
}

// The whole list of actions is sent again, with the secret kept.
func TestPitfall03WholeActionList(t *testing.T) {
	s := onCloud(t, layout())
	hand, got := weights(t, s)
	_, err := rawModify(t, s, map[string]string{
		"Actions.member.1.Type": "authenticate-oidc", "Actions.member.1.Order": "1",
		"Actions.member.1.AuthenticateOidcConfig.Issuer":                "https://id.example",
		"Actions.member.1.AuthenticateOidcConfig.AuthorizationEndpoint": "https://id.example/a",
		"Actions.member.1.AuthenticateOidcConfig.TokenEndpoint":         "https://id.example/t",
		"Actions.member.1.AuthenticateOidcConfig.UserInfoEndpoint":      "https://id.example/u",
		"Actions.member.1.AuthenticateOidcConfig.ClientId":              "me",
		"Actions.member.1.AuthenticateOidcConfig.ClientSecret":          "secret",
		"Actions.member.2.Type":                                         "forward", "Actions.member.2.Order": "2",
		"Actions.member.2.ForwardConfig.TargetGroups.member.1.TargetGroupArn":        s.aws,
		"Actions.member.2.ForwardConfig.TargetGroups.member.1.Weight":                "70",
		"Actions.member.2.ForwardConfig.TargetGroups.member.2.TargetGroupArn":        s.idc,
		"Actions.member.2.ForwardConfig.TargetGroups.member.2.Weight":                "30",
		"Actions.member.2.ForwardConfig.TargetGroupStickinessConfig.Enabled":         "true",
		"Actions.member.2.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds": "120",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.cloud.ForgetCalls()
	must(t, hand.Apply, s.splitWish(60, 40, nil), 1)
	must(t, hand.Apply, s.splitWish(61, 39, nil), 1) // the secret is still there
	if r := (*got)[0]; !r.Sticky || text(r.Weights, s) != "aws=61 idc=39 " {
		t.Errorf("%+v", r)
	}
	var sent url.Values
	for _, c := range s.cloud.Calls() {
		if c.Action == "ModifyRule" {
			sent = c.Params
		}
	}
	for k, want := range map[string]string{
		"Actions.member.1.Type": "authenticate-oidc", "Actions.member.1.Order": "1",
		"Actions.member.1.AuthenticateOidcConfig.Issuer":                             "https://id.example",
		"Actions.member.1.AuthenticateOidcConfig.UseExistingClientSecret":            "true",
		"Actions.member.2.Order":                                                     "2",
		"Actions.member.2.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds": "120",
	} {
		if got := sent.Get(k); got != want {
			t.Errorf("sent %s = %q, want %q", k, got, want)
		}
	}
}

// rawModify modifies the rule as another tool would.
func rawModify(t *testing.T, s stage, params map[string]string) (string, error) {
	t.Helper()
	return raw(t, s, "ModifyRule", "RuleArn", s.rule, params)
}

// A zone as AWS demands: all for overlay addresses, a real one when the
// group's cross-zone balancing is off.
func TestPitfall05Zone(t *testing.T) {
	l := layout()
	l.Groups[1].CrossZoneOff = true
	s := onCloud(t, l)
	hand, got := targets(t, s)
	must(t, hand.Apply, s.targetWish("172.20.0.1:80", "172.20.0.2:80"), 2)
	if len((*got)[0].Targets) != 2 {
		t.Errorf("%+v", *got)
	}
	zones := map[string]bool{}
	for _, c := range s.cloud.Calls() {
		if c.Action == "RegisterTargets" && c.Code == "" {
			zones[c.Params.Get("Targets.member.1.AvailabilityZone")] = true
			zones[c.Params.Get("Targets.member.2.AvailabilityZone")] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"us-east-1a": true, "us-east-1b": true}, zones); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
}

func TestPitfall05ZoneUnknown(t *testing.T) {
	l := layout()
	l.Groups[1].CrossZoneOff, l.Groups[1].Detached = true, true // no load balancer, no zones
	s := onCloud(t, l)
	hand, _ := targets(t, s)
	_, err := hand.Apply(t.Context(), s.targetWish("172.20.0.1:80"))
	if !isErr(err, discovery.ErrRefused) || !strings.Contains(err.Error(), "switch cross-zone load balancing on") {
		t.Errorf("%v", err)
	}
}

func TestPitfall05MeshInsideVPC(t *testing.T) {
	s := onCloud(t, layout())
	hand, _ := targets(t, s)
	w := s.targetWish("10.0.1.9:80")
	w.Targets[0].Owned = mustPrefix("10.0.0.0/16")
	_, err := hand.Apply(t.Context(), w)
	if !isErr(err, discovery.ErrRefused) || !strings.Contains(err.Error(), "choose another mesh prefix") {
		t.Errorf("%v", err)
	}
}

// Errors, HealthUnavailable, garbage and silence are unknown, never down: the
// last good reading stays, nothing is written, and the next Apply converges.
func TestPitfall09UnknownIsNotDown(t *testing.T) {
	faults := []struct {
		name  string
		fault cloudtest.Fault
		want  error
	}{
		{"throttled", cloudtest.Fault{Code: "Throttling"}, discovery.ErrThrottled},
		{"throttled as documented", cloudtest.Fault{Code: "ThrottlingException"}, discovery.ErrThrottled},
		{"health unavailable", cloudtest.Fault{Code: "HealthUnavailable", HTTPStatus: 500}, discovery.ErrUnavailable},
		{"service unavailable", cloudtest.Fault{Code: "ServiceUnavailable", HTTPStatus: 503}, discovery.ErrUnavailable},
		{"denied", cloudtest.Fault{Code: "AccessDenied", HTTPStatus: 403}, discovery.ErrDenied},
		{"html", cloudtest.Fault{Garbage: "<html><body>proxy</body></html>"}, discovery.ErrUnavailable},
		{"html 502", cloudtest.Fault{Garbage: "<html>bad gateway</html>", HTTPStatus: 502}, discovery.ErrUnavailable},
		{"not xml", cloudtest.Fault{Garbage: "{}"}, discovery.ErrUnavailable},
		{"cut off", cloudtest.Fault{Garbage: "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions>"}, discovery.ErrUnavailable},
		{"blank", cloudtest.Fault{Garbage: " "}, discovery.ErrUnavailable},
		{"empty result", cloudtest.Fault{Garbage: "<DescribeRulesResponse><DescribeRulesResult></DescribeRulesResult></DescribeRulesResponse>"}, discovery.ErrUnavailable},
		{"empty list", cloudtest.Fault{Garbage: "<DescribeRulesResponse><DescribeRulesResult><Rules/></DescribeRulesResult></DescribeRulesResponse>"}, discovery.ErrUnavailable},
		{"no answer", cloudtest.Fault{Drop: true}, discovery.ErrUnavailable},
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			s := onCloud(t, layout())
			wh, splits := weights(t, s)
			th, groups := targets(t, s)
			must(t, th.Apply, s.targetWish("172.20.0.1:80"), 1)
			must(t, wh.Apply, s.splitWish(70, 30, nil), 0)
			s.cloud.ForgetCalls()
			goodSplit, goodGroup := (*splits)[0], (*groups)[0]

			tt.fault.Count = -1
			s.cloud.Inject(tt.fault)
			n, err := wh.Apply(t.Context(), s.splitWish(100, 0, nil))
			if n != 0 || !isErr(err, tt.want) {
				t.Errorf("weights: %d %v, want %v", n, err, tt.want)
			}
			n, err = th.Apply(t.Context(), s.targetWish("172.20.0.2:80"))
			if n != 0 || !isErr(err, tt.want) {
				t.Errorf("targets: %d %v, want %v", n, err, tt.want)
			}
			if got := (*splits)[0]; got.Err == "" {
				t.Error("split: no Err")
			} else if got.Err = ""; !cmp.Equal(goodSplit, got) {
				t.Errorf("split: %s", cmp.Diff(goodSplit, got))
			}
			if got := (*groups)[0]; got.Err == "" {
				t.Error("group: no Err")
			} else if got.Err = ""; !cmp.Equal(goodGroup, got) {
				t.Errorf("group: %s", cmp.Diff(goodGroup, got))
			}
			if w := s.wrote(); len(w) != 0 {
				t.Errorf("written in the dark: %v", w)
			}
			s.cloud.ClearFaults()
			must(t, wh.Apply, s.splitWish(100, 0, nil), 1)
			must(t, th.Apply, s.targetWish("172.20.0.1:80", "172.20.0.2:80"), 1)
			if (*splits)[0].Err != "" || (*groups)[0].Err != "" {
				t.Error("Err stays")
			}
		})
	}
}

// A write that fails, or whose answer is lost, is read back, said, and
// converges at the second Apply; it is sent once per Apply.
func TestWriteFaults(t *testing.T) {
	faults := []struct {
		name  string
		fault cloudtest.Fault
		want  error
		done  bool // the effect is there
	}{
		{"throttled", cloudtest.Fault{Code: "Throttling"}, discovery.ErrThrottled, false},
		{"5xx", cloudtest.Fault{Code: "InternalFailure", HTTPStatus: 500}, discovery.ErrUnavailable, false},
		{"garbage", cloudtest.Fault{Garbage: "<html>"}, discovery.ErrUnavailable, false},
		{"no answer", cloudtest.Fault{Drop: true}, discovery.ErrUnavailable, false},
		{"5xx after success", cloudtest.Fault{Code: "InternalFailure", HTTPStatus: 500, AfterEffect: true}, discovery.ErrUnavailable, true},
		{"no answer after success", cloudtest.Fault{Drop: true, AfterEffect: true}, discovery.ErrUnavailable, true},
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			s := onCloud(t, layout())
			wh, splits := weights(t, s)
			th, groups := targets(t, s)
			tt.fault.Action = "ModifyRule"
			s.cloud.Inject(tt.fault)
			if n, err := wh.Apply(t.Context(), s.splitWish(100, 0, nil)); n != 0 || !isErr(err, tt.want) {
				t.Errorf("weights: %d %v", n, err)
			}
			want := "aws=70 idc=30 "
			if tt.done {
				want = "aws=100 idc=0 "
			}
			if got := text((*splits)[0].Weights, s); got != want || (*splits)[0].Err != "" {
				t.Errorf("read back %q, want %q: %+v", got, want, (*splits)[0])
			}
			tt.fault.Action = "RegisterTargets"
			s.cloud.Inject(tt.fault)
			if n, err := th.Apply(t.Context(), s.targetWish("172.20.0.1:80")); n != 0 || !isErr(err, tt.want) {
				t.Errorf("targets: %d %v", n, err)
			}
			if got := len((*groups)[0].Targets) == 1; got != tt.done {
				t.Errorf("read back %+v", (*groups)[0])
			}
			if diff := cmp.Diff([]string{"ModifyRule", "RegisterTargets"}, s.wrote()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			changes := map[bool]int{true: 0, false: 1}[tt.done]
			must(t, wh.Apply, s.splitWish(100, 0, nil), changes)
			must(t, th.Apply, s.targetWish("172.20.0.1:80"), changes)
			if text((*splits)[0].Weights, s) != "aws=100 idc=0 " || len((*groups)[0].Targets) != 1 {
				t.Errorf("not converged: %+v %+v", *splits, *groups)
			}
		})
	}
}

// UDP and preserved client addresses cannot work with an overlay, and what
// moto takes AWS refuses.
func TestPitfall15UDPAndTrustInMoto(t *testing.T) {
	l := layout()
	l.Groups = append(l.Groups, cloudtest.GroupLayout{Name: "udp", Protocol: "UDP", Detached: true})
	s := onCloud(t, l)
	hand, _ := targets(t, s)
	w := s.targetWish("172.20.0.1:80")
	groups := groupARNs(t, s)
	w.Targets[0].Group, w.Read.Groups = groups["udp"], nil
	_, err := hand.Apply(t.Context(), w)
	if !isErr(err, discovery.ErrRefused) || !strings.Contains(err.Error(), "use no UDP listener") {
		t.Errorf("udp: %v", err)
	}
	// moto registers public addresses and stores any weight; the hand and
	// the strict fake do not.
	w = s.targetWish("8.8.8.8:80")
	w.Targets[0].Owned = mustPrefix("8.0.0.0/8")
	if _, err := hand.Apply(t.Context(), w); !isErr(err, discovery.ErrRefused) {
		t.Errorf("public address: %v", err)
	}
	wh, _ := weights(t, s)
	if _, err := wh.Apply(t.Context(), s.splitWish(5000, 1, nil)); !isErr(err, discovery.ErrRefused) {
		t.Errorf("weight 5000: %v", err)
	}
}

// Nothing is written once the context, and with it maybe the lease, is over.
func TestNoWriteWithoutContext(t *testing.T) {
	s := onCloud(t, layout())
	ctx, cancel := context.WithCancel(t.Context())
	hand := elb.NewWeights(elb.WeightsOptions{
		API:    client(t, s.url),
		Report: func([]discovery.Split) { cancel() }, // the lease goes after the reading
	})
	if n, err := hand.Apply(ctx, s.splitWish(100, 0, nil)); n != 0 || !isErr(err, context.Canceled) {
		t.Errorf("%d %v", n, err)
	}
	if w := s.wrote(); len(w) != 0 {
		t.Errorf("written: %v", w)
	}
}

// Foreign targets are never touched.
func TestForeignTargetsStay(t *testing.T) {
	s := onCloud(t, layout())
	_, err := raw(t, s, "RegisterTargets", "TargetGroupArn", s.idc, map[string]string{
		"Targets.member.1.Id": "192.168.7.7", "Targets.member.1.Port": "80", "Targets.member.1.AvailabilityZone": "all",
		"Targets.member.2.Id": "10.0.1.7", "Targets.member.2.Port": "80",
	})
	if err != nil {
		t.Fatal(err)
	}
	hand, got := targets(t, s)
	must(t, hand.Apply, s.targetWish("172.20.0.1:80"), 1)
	must(t, hand.Apply, s.targetWish(), 1)
	for _, x := range (*got)[0].Targets {
		if drains := x.State == discovery.TargetDraining; drains != (x.ID == "172.20.0.1") {
			t.Errorf("%+v", x)
		}
	}
	must(t, hand.Apply, s.targetWish("172.20.0.1:80"), 1) // a draining one comes back
	w := s.targetWish("192.168.7.8:80")
	if _, err := hand.Apply(t.Context(), w); !isErr(err, discovery.ErrRefused) {
		t.Errorf("a wish outside the owned prefix: %v", err)
	}
}

func TestChunks(t *testing.T) {
	s := onCloud(t, layout())
	hand, got := targets(t, s)
	var refs []string
	for i := range 450 {
		refs = append(refs, fmt.Sprintf("172.20.%d.%d:80", i/200, i%200+1))
	}
	must(t, hand.Apply, s.targetWish(refs...), 450)
	if len((*got)[0].Targets) != 450 {
		t.Errorf("%d targets", len((*got)[0].Targets))
	}
	must(t, hand.Apply, s.targetWish(refs[0]), 449)
	want := []string{"RegisterTargets", "RegisterTargets", "RegisterTargets", "DeregisterTargets", "DeregisterTargets", "DeregisterTargets"}
	if diff := cmp.Diff(want, s.wrote()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTooManyTargets(t *testing.T) {
	s := onCloud(t, layout())
	hand, _ := targets(t, s)
	s.cloud.Inject(cloudtest.Fault{Action: "RegisterTargets", Code: "TooManyTargets"})
	_, err := hand.Apply(t.Context(), s.targetWish("172.20.0.1:80"))
	if !isErr(err, discovery.ErrRefused) || !strings.Contains(err.Error(), "ask AWS to raise it") {
		t.Errorf("%v", err)
	}
}

func TestDefaultRuleIsRefused(t *testing.T) {
	s := onCloud(t, layout())
	hand, _ := weights(t, s)
	w := discovery.CloudWish{Write: true, Splits: []discovery.SplitWish{{
		Rule: s.def, Weights: []discovery.GroupWeight{{Group: s.aws, Weight: 5}},
	}}}
	if n, err := hand.Apply(t.Context(), w); n != 0 || !isErr(err, discovery.ErrRefused) {
		t.Errorf("%d %v", n, err)
	}
}

func TestNewClientWantsRegion(t *testing.T) {
	identity(t)
	if _, err := elb.NewClient(t.Context(), elb.ClientOptions{}); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Errorf("%v", err)
	}
}

// A hand that cannot reach AWS at all answers within its deadlines.
func TestNoListener(t *testing.T) {
	s := onCloud(t, layout())
	s.url = "http://127.0.0.1:1"
	hand, got := weights(t, s)
	start := time.Now()
	_, err := hand.Apply(t.Context(), s.splitWish(100, 0, nil))
	if !isErr(err, discovery.ErrUnavailable) || (*got)[0].Err == "" || !(*got)[0].Read.IsZero() {
		t.Errorf("%v %+v", err, *got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
