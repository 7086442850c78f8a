package agent

import (
	"context"
	"maps"
	"slices"

	"drawbridge/agent/api"
	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
)

var _ api.Source = source{}

// source answers the desk.
type source struct{ a *Agent }

func (s source) Snapshot() *decide.Snapshot      { return s.a.brain.snapshot.Load() }
func (s source) Plan() *decide.Plan              { return s.a.brain.plan.Load() }
func (s source) Events(since uint64) []api.Event { return s.a.journal.Since(since) }

func (s source) Outcomes() []reconcile.Outcome {
	o := &s.a.outcomes
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]reconcile.Outcome, 0, len(o.last))
	for _, name := range slices.Sorted(maps.Keys(o.last)) {
		out = append(out, o.last[name])
	}
	return out
}

func (s source) Calls(ctx context.Context) ([]discovery.Call, error) {
	p := s.a.brain.plan.Load()
	if s.a.cloud == nil || p == nil || p.Cloud == nil {
		return nil, nil
	}
	return s.a.cloud.calls(ctx, *p.Cloud)
}

func (s source) Trust() api.Trust {
	return s.a.trust.view(s.a.gossip.Members(), s.a.gossip.Chains())
}

func (s source) Counters() map[string]uint64 {
	p := s.a.prober.Counters()
	out := map[string]uint64{
		"probe.sent": p.Sent, "probe.send-errors": p.SendErrors, "probe.received": p.Received, "probe.strangers": p.Strangers,
		"probe.versions": p.Versions, "probe.too-big": p.TooBig, "probe.malformed": p.Malformed, "probe.unanswered": p.Unanswered,
		"probe.views-dropped": p.ViewsDropped, "probe.restarts": p.Restarts, "probe.pauses": p.Pauses,
	}
	for name, n := range s.a.gossip.Counters() {
		out["gossip."+name] = n
	}
	if s.a.server != nil {
		for name, n := range s.a.server.Counters() {
			out["enroll."+name] = n
		}
	}
	for name, n := range s.a.streams.counters() {
		out["stream."+name] = n
	}
	return out
}

func (s source) Info() api.Info {
	return api.Info{
		Mesh: s.a.id.node.Mesh, Version: s.a.opts.Version, Backend: string(s.a.tunnel.backend), BackendReason: s.a.tunnel.reason,
		Interface: s.a.tunnel.iface, Started: s.a.started, StateDir: s.a.opts.StateDir,
	}
}
