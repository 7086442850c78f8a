package elb

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
)

func tup(arn string, weight int32) types.TargetGroupTuple {
	return types.TargetGroupTuple{TargetGroupArn: aws.String(arn), Weight: aws.Int32(weight)}
}

func forward(st *types.TargetGroupStickinessConfig, ts ...types.TargetGroupTuple) types.Action {
	return types.Action{
		Type:          types.ActionTypeEnumForward,
		ForwardConfig: &types.ForwardActionConfig{TargetGroups: ts, TargetGroupStickinessConfig: st},
	}
}

func stick(on bool, secs int32) *types.TargetGroupStickinessConfig {
	st := &types.TargetGroupStickinessConfig{Enabled: aws.Bool(on)}
	if secs > 0 {
		st.DurationSeconds = aws.Int32(secs)
	}
	return st
}

func gw(kv ...any) []discovery.GroupWeight {
	var out []discovery.GroupWeight
	for i := 0; i+1 < len(kv); i += 2 {
		out = append(out, discovery.GroupWeight{Group: kv[i].(string), Weight: kv[i+1].(int)})
	}
	return out
}

func dur(d time.Duration) *time.Duration { return &d }

func TestModified(t *testing.T) {
	redirect := types.Action{Type: types.ActionTypeEnumRedirect}
	tests := []struct {
		name    string
		actions []types.Action
		weights []discovery.GroupWeight
		sticky  *time.Duration
		want    []types.Action // nil: nothing to do
		detail  string
		err     string
	}{
		{
			name: "as wished", actions: []types.Action{forward(stick(false, 0), tup("a", 70), tup("b", 30))},
			weights: gw("a", 70, "b", 30),
		},
		{
			name: "weights, sticky kept", actions: []types.Action{forward(stick(true, 60), tup("b", 30), tup("a", 70))},
			weights: gw("a", 60, "b", 40),
			want:    []types.Action{forward(stick(true, 60), tup("b", 40), tup("a", 60))}, detail: "b 30 -> 40, a 70 -> 60",
		},
		{
			name: "zero ends stickiness", actions: []types.Action{forward(stick(true, 60), tup("a", 70), tup("b", 30))},
			weights: gw("a", 70, "b", 0), sticky: dur(time.Hour),
			want: []types.Action{forward(stick(false, 0), tup("a", 70), tup("b", 0))}, detail: "b 30 -> 0, stickiness 1m0s -> off",
		},
		{
			name: "zero already, sticky by hand", actions: []types.Action{forward(stick(true, 60), tup("a", 70), tup("b", 0))},
			weights: gw("b", 0),
			want:    []types.Action{forward(stick(false, 0), tup("a", 70), tup("b", 0))}, detail: "stickiness 1m0s -> off",
		},
		{
			name: "off with a duration is off", actions: []types.Action{forward(stick(false, 60), tup("a", 70), tup("b", 0))},
			weights: gw("b", 0), sticky: dur(0),
		},
		{
			name: "switched on", actions: []types.Action{forward(nil, tup("a", 70), tup("b", 30))},
			weights: gw("a", 70, "b", 30), sticky: dur(2 * time.Minute),
			want: []types.Action{forward(stick(true, 120), tup("a", 70), tup("b", 30))}, detail: "stickiness off -> 2m0s",
		},
		{
			name: "longer", actions: []types.Action{forward(stick(true, 60), tup("a", 70))},
			weights: gw("a", 70), sticky: dur(2 * time.Minute),
			want: []types.Action{forward(stick(true, 120), tup("a", 70))}, detail: "stickiness 1m0s -> 2m0s",
		},
		{
			name: "unnamed groups keep", actions: []types.Action{forward(nil, tup("a", 1), tup("x", 7), tup("b", 1))},
			weights: gw("a", 5),
			want:    []types.Action{forward(stick(false, 0), tup("a", 5), tup("x", 7), tup("b", 1))}, detail: "a 1 -> 5",
		},
		{
			name: "both notations, weight not given",
			actions: []types.Action{{
				Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String("a"),
				ForwardConfig: &types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{{TargetGroupArn: aws.String("a")}}},
			}},
			weights: gw("a", 10),
			want:    []types.Action{forward(stick(false, 0), tup("a", 10))}, detail: "a 1 -> 10",
		},
		{
			name: "old notation", actions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String("a")}},
			weights: gw("a", 1),
		},
		{
			name: "other actions stay",
			actions: []types.Action{
				{
					Type: types.ActionTypeEnumAuthenticateOidc, Order: aws.Int32(1),
					AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{ClientId: aws.String("me")},
				},
				{Type: types.ActionTypeEnumForward, Order: aws.Int32(2), TargetGroupArn: aws.String("a")},
			},
			weights: gw("a", 2),
			want: []types.Action{
				{
					Type: types.ActionTypeEnumAuthenticateOidc, Order: aws.Int32(1),
					AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{ClientId: aws.String("me"), UseExistingClientSecret: aws.Bool(true)},
				},
				{
					Type: types.ActionTypeEnumForward, Order: aws.Int32(2),
					ForwardConfig: &types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{tup("a", 2)}, TargetGroupStickinessConfig: stick(false, 0)},
				},
			},
			detail: "a 1 -> 2",
		},
		{name: "no forward", actions: []types.Action{redirect}, weights: gw("a", 1), err: "no forward action"},
		{name: "unknown group", actions: []types.Action{forward(nil, tup("a", 1))}, weights: gw("b", 1), err: "does not forward to b"},
		{name: "all zero", actions: []types.Action{forward(nil, tup("a", 1), tup("b", 0))}, weights: gw("a", 0), err: "would be 0"},
		{name: "too heavy", actions: []types.Action{forward(nil, tup("a", 1))}, weights: gw("a", 1000), err: "not within 0-999"},
		{name: "negative", actions: []types.Action{forward(nil, tup("a", 1))}, weights: gw("a", -1), err: "not within 0-999"},
		{
			name: "six groups", actions: []types.Action{forward(nil, tup("a", 1), tup("b", 1), tup("c", 1), tup("d", 1), tup("e", 1), tup("f", 1))},
			weights: gw("a", 1), err: "ELB allows 5",
		},
		{name: "sticky too long", actions: []types.Action{forward(nil, tup("a", 1))}, sticky: dur(8 * 24 * time.Hour), err: "not whole seconds"},
		{name: "sticky fraction", actions: []types.Action{forward(nil, tup("a", 1))}, sticky: dur(1500 * time.Millisecond), err: "not whole seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rule := types.Rule{RuleArn: aws.String("r"), Actions: tt.actions}
			got, err := modified(rule, discovery.SplitWish{Rule: "r", Weights: tt.weights, Stickiness: tt.sticky})
			if tt.err != "" {
				if !errors.Is(err, discovery.ErrRefused) || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				got = &change{}
			}
			if diff := cmp.Diff(tt.want, got.actions, cmpopts.IgnoreUnexported(
				types.Action{}, types.ForwardActionConfig{}, types.TargetGroupTuple{}, types.TargetGroupStickinessConfig{}, types.AuthenticateOidcActionConfig{},
			)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if got.detail != tt.detail {
				t.Errorf("detail %q, want %q", got.detail, tt.detail)
			}
		})
	}
}

func TestModifiedLeavesItsInputAlone(t *testing.T) {
	a := types.Action{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String("a")}
	oidc := types.Action{Type: types.ActionTypeEnumAuthenticateOidc, AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{}}
	rule := types.Rule{Actions: []types.Action{oidc, a}}
	if _, err := modified(rule, discovery.SplitWish{Weights: gw("a", 9)}); err != nil {
		t.Fatal(err)
	}
	if rule.Actions[0].AuthenticateOidcConfig.UseExistingClientSecret != nil || rule.Actions[1].ForwardConfig != nil {
		t.Errorf("changed: %+v", rule)
	}
}

func TestCompare(t *testing.T) {
	const h, u, d, in = discovery.TargetHealthy, discovery.TargetUnhealthy, discovery.TargetDraining, discovery.TargetInitial
	type ts = []discovery.Target
	at := func(id string, s discovery.TargetState) discovery.Target {
		return discovery.Target{ID: id, Port: 80, State: s}
	}
	tests := []struct {
		name                   string
		have                   ts
		want                   []string
		missing, surplus, kept string
	}{
		{name: "nothing", missing: ""},
		{name: "fresh", want: []string{"10.9.0.2", "10.9.0.1"}, missing: "10.9.0.1:80, 10.9.0.2:80"},
		{name: "there", have: ts{at("10.9.0.1", u)}, want: []string{"10.9.0.1"}},
		{name: "surplus", have: ts{at("10.9.0.1", h), at("10.9.0.2", h)}, want: []string{"10.9.0.1"}, surplus: "10.9.0.2:80"},
		{name: "surplus drains", have: ts{at("10.9.0.1", h), at("10.9.0.2", d)}, want: []string{"10.9.0.1"}},
		{name: "wanted drains", have: ts{at("10.9.0.1", d)}, want: []string{"10.9.0.1"}, missing: "10.9.0.1:80"},
		{name: "foreign", have: ts{at("192.168.0.1", h), at("i-123", h), at("10.9.0.1", h)}, surplus: "10.9.0.1:80"},
		{name: "foreign unhealthy", have: ts{at("192.168.0.1", u), at("10.9.0.1", h)}, kept: "10.9.0.1:80"},
		{name: "last one", have: ts{at("10.9.0.1", u), at("10.9.0.2", u)}, surplus: "10.9.0.2:80", kept: "10.9.0.1:80"},
		{name: "last healthy one", have: ts{at("10.9.0.1", u), at("10.9.0.2", h)}, surplus: "10.9.0.1:80", kept: "10.9.0.2:80"},
		{name: "replaced", have: ts{at("10.9.0.1", h), at("10.9.0.2", in)}, want: []string{"10.9.0.2"}, kept: "10.9.0.1:80"},
		{name: "replaced and healthy", have: ts{at("10.9.0.1", h), at("10.9.0.2", h)}, want: []string{"10.9.0.2"}, surplus: "10.9.0.1:80"},
		{name: "dead replaced", have: ts{at("10.9.0.1", u)}, want: []string{"10.9.0.2"}, missing: "10.9.0.2:80", surplus: "10.9.0.1:80"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := discovery.TargetWish{Group: "g", Owned: netipPrefix("10.9.0.0/16")}
			for _, a := range tt.want {
				w.Targets = append(w.Targets, discovery.TargetRef{Addr: netipAddr(a), Port: 80})
			}
			got, err := compare(tt.have, w)
			if err != nil {
				t.Fatal(err)
			}
			want := [3]string{tt.missing, tt.surplus, tt.kept}
			if diff := cmp.Diff(want, [3]string{refsText(got.missing), refsText(got.surplus), refsText(got.kept)}); diff != "" {
				t.Errorf("missing, surplus, kept (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := compare(nil, discovery.TargetWish{Targets: []discovery.TargetRef{{Addr: netipAddr("10.9.0.1"), Port: 80}}}); !errors.Is(err, discovery.ErrRefused) {
		t.Errorf("no owned prefix: %v", err)
	}
}

func TestTargetsOf(t *testing.T) {
	ok := types.TargetHealthDescription{
		Target:       &types.TargetDescription{Id: aws.String("10.9.0.1"), Port: aws.Int32(80)},
		TargetHealth: &types.TargetHealth{State: types.TargetHealthStateEnumUnhealthyDraining, Reason: types.TargetHealthReasonEnumTimeout},
	}
	got, err := targetsOf([]types.TargetHealthDescription{ok})
	want := []discovery.Target{{ID: "10.9.0.1", Port: 80, State: discovery.TargetUnhealthy, Reason: "Target.Timeout"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
	for name, bad := range map[string][]types.TargetHealthDescription{
		"nil": nil, "no target": {{TargetHealth: ok.TargetHealth}}, "no health": {{Target: ok.Target}},
		"no state": {{Target: ok.Target, TargetHealth: &types.TargetHealth{}}},
	} {
		if _, err := targetsOf(bad); !errors.Is(err, discovery.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := targetsOf([]types.TargetHealthDescription{}); err != nil || len(got) != 0 {
		t.Errorf("an empty group: %v %v", got, err)
	}
}
