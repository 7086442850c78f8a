package elb_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

// The same stories with the real SDK on the strict fake and on moto. Where
// moto must differ the story says why.
func TestWire(t *testing.T) {
	stages := []struct {
		name string
		make func(*testing.T) stage
	}{
		{"cloudtest", func(t *testing.T) stage { return onCloud(t, layout()) }},
		{"moto", onMoto},
	}
	for _, st := range stages {
		t.Run(st.name, func(t *testing.T) {
			s := st.make(t)
			t.Run("weights", func(t *testing.T) { wireWeights(t, s) })
			t.Run("targets", func(t *testing.T) { wireTargets(t, s) })
			t.Run("not found", func(t *testing.T) { wireNotFound(t, s) })
		})
	}
}

func wireWeights(t *testing.T, s stage) {
	hand, got := weights(t, s)
	off, hour := time.Duration(0), time.Hour

	must(t, hand.Apply, discovery.CloudWish{Read: discovery.CloudRead{Rules: []string{s.rule}}}, 0)
	if r := (*got)[0]; r.Rule != s.rule || text(r.Weights, s) != sortedText(s, 70, 30) || !r.Sticky || r.Err != "" || r.Read.IsZero() {
		t.Errorf("first reading: %+v", r)
	}
	calls, err := hand.Calls(t.Context(), s.splitWish(100, 0, &off))
	want := []discovery.Call{{
		Service: "elasticloadbalancing", Action: "ModifyRule", Object: s.rule,
		Detail: "aws 70 -> 100, idc 30 -> 0, stickiness 1h0m0s -> off", Reason: discovery.ReasonSiteDark,
	}}
	if diff := cmp.Diff(want, calls); diff != "" || err != nil {
		t.Errorf("calls (-want +got):\n%s%v", diff, err)
	}
	must(t, hand.Apply, s.splitWish(100, 0, &off), 1)
	if r := (*got)[0]; text(r.Weights, s) != sortedText(s, 100, 0) || r.Sticky {
		t.Errorf("read back: %+v", r)
	}
	must(t, hand.Apply, s.splitWish(100, 0, &off), 0) // idempotent
	must(t, hand.Apply, s.splitWish(70, 30, &hour), 1)
	if r := (*got)[0]; text(r.Weights, s) != sortedText(s, 70, 30) || !r.Sticky {
		t.Errorf("restored: %+v", r)
	}
	must(t, hand.Apply, s.splitWish(60, 40, nil), 1) // nil keeps stickiness
	if r := (*got)[0]; text(r.Weights, s) != sortedText(s, 60, 40) || !r.Sticky {
		t.Errorf("stickiness lost: %+v", r)
	}
	wish := s.splitWish(70, 30, &off)
	wish.Write = false
	must(t, hand.Apply, wish, 0)
}

// sortedText writes the weights in the order of the groups' ARNs.
func sortedText(s stage, aws, idc int) string {
	w := []discovery.GroupWeight{{Group: s.aws, Weight: aws}, {Group: s.idc, Weight: idc}}
	if s.idc < s.aws {
		w[0], w[1] = w[1], w[0]
	}
	return text(w, s)
}

func wireTargets(t *testing.T, s stage) {
	hand, got := targets(t, s)
	must(t, hand.Apply, discovery.CloudWish{Read: discovery.CloudRead{Groups: []string{s.idc}}}, 0)
	if g := (*got)[0]; g.ID != s.idc || g.Err != "" || len(g.Targets) != 0 || g.Read.IsZero() {
		t.Errorf("an empty group: %+v", g)
	}
	must(t, hand.Apply, s.targetWish("172.20.0.1:8080", "172.20.0.2:8080"), 2)
	must(t, hand.Apply, s.targetWish("172.20.0.1:8080", "172.20.0.2:8080"), 0)
	if g := (*got)[0]; len(g.Targets) != 2 || g.Targets[0].ID != "172.20.0.1" || g.Targets[0].Port != 8080 || g.Targets[0].State == "" {
		t.Errorf("registered: %+v", g)
	}
	calls, err := hand.Calls(t.Context(), s.targetWish("172.20.0.2:8080", "172.20.0.3:8080"))
	if err != nil || len(calls) != 2 || calls[0].Action != "RegisterTargets" || calls[0].Detail != "172.20.0.3:8080" ||
		calls[1].Action != "DeregisterTargets" || calls[1].Detail != "172.20.0.1:8080" {
		t.Errorf("calls: %+v %v", calls, err)
	}
	must(t, hand.Apply, s.targetWish("172.20.0.2:8080", "172.20.0.3:8080"), 2)
	states := map[string]discovery.TargetState{}
	for _, x := range (*got)[0].Targets {
		states[x.ID] = x.State
	}
	// moto removes at once; AWS drains for the deregistration delay.
	if s.cloud != nil && states["172.20.0.1"] != discovery.TargetDraining {
		t.Errorf("no draining: %v", states)
	}
	if _, ok := states["172.20.0.1"]; ok && s.cloud == nil {
		t.Errorf("moto learned to drain; this branch can go: %v", states)
	}
}

func wireNotFound(t *testing.T, s stage) {
	hand, got := weights(t, s)
	gone := strings.Replace(s.rule, "listener-rule/", "listener-rule/zz", 1)
	n, err := hand.Apply(t.Context(), discovery.CloudWish{Read: discovery.CloudRead{Rules: []string{s.rule, gone}}})
	if n != 0 || !isErr(err, discovery.ErrNotFound) {
		// moto answers an unknown rule ARN with an empty list or RuleNotFound,
		// by version; both must be an error here, never an empty rule.
		if s.cloud != nil || err == nil {
			t.Fatalf("%d %v", n, err)
		}
	}
	for _, r := range *got {
		if (r.Rule == gone) != (r.Err != "") {
			t.Errorf("one missing rule spoils the other: %+v", r)
		}
	}
}
