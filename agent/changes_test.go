package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/api"
	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

func TestChanges(t *testing.T) {
	member := func(state discovery.MemberState) *decide.Snapshot {
		return &decide.Snapshot{Members: []discovery.Member{{
			Record: discovery.Record{Identity: discovery.Identity{ID: "aa", Name: "gw-a"}}, State: state,
		}}}
	}
	plan := func(leader discovery.NodeID, v decide.Verdict, goal int) *decide.Plan {
		return &decide.Plan{
			Leader: leader,
			Sites:  []decide.SiteStatus{{Site: "idc", Verdict: v, Reason: discovery.ReasonAllDark}},
			Routes: []decide.RouteStatus{{Route: "api", Pools: []decide.PoolStatus{{Pool: "onprem", Goal: goal, Reason: discovery.ReasonSiteDark}}}},
		}
	}
	tests := []struct {
		name   string
		wasS   *decide.Snapshot
		isS    *decide.Snapshot
		was    *decide.Plan
		is     *decide.Plan
		events []api.Event
	}{
		{
			name: "first thought", isS: member(discovery.StateKnown), is: plan("aa", decide.Up, 70),
			events: []api.Event{
				{Kind: "leader", Subject: "mesh", To: "gw-a"},
				{Kind: "verdict", Subject: "idc", To: "up", Reason: discovery.ReasonAllDark},
				{Kind: "goal", Subject: "api/onprem", To: "70", Reason: discovery.ReasonSiteDark},
				{Kind: "member", Subject: "gw-a", To: "known"},
			},
		},
		{
			name: "nothing new", wasS: member(discovery.StateAlive), isS: member(discovery.StateAlive),
			was: plan("aa", decide.Up, 70), is: plan("aa", decide.Up, 70),
		},
		{
			name: "site dark", wasS: member(discovery.StateAlive), isS: member(discovery.StateDead),
			was: plan("aa", decide.Up, 70), is: plan("aa", decide.Dark, 0),
			events: []api.Event{
				{Kind: "verdict", Subject: "idc", From: "up", To: "dark", Reason: discovery.ReasonAllDark},
				{Kind: "goal", Subject: "api/onprem", From: "70", To: "0", Reason: discovery.ReasonSiteDark},
				{Kind: "member", Subject: "gw-a", From: "alive", To: "dead"},
			},
		},
		{
			name: "keep", wasS: member(discovery.StateAlive), isS: member(discovery.StateAlive),
			was: plan("aa", decide.Up, 70), is: plan("aa", decide.Up, -1),
			events: []api.Event{{Kind: "goal", Subject: "api/onprem", From: "70", To: "keep", Reason: discovery.ReasonSiteDark}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.events, changes(tt.wasS, tt.isS, tt.was, tt.is)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
