package api

import (
	"context"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
)

// moment is everything a view is made from, gathered once per request.
type moment struct {
	now      time.Time
	snap     *decide.Snapshot // never nil
	plan     *decide.Plan     // never nil
	decided  bool             // there was a snapshot and a plan
	outcomes []reconcile.Outcome
	counters map[string]uint64
	info     Info
}

func gather(now time.Time, src Source) moment {
	m := moment{
		now: now, snap: src.Snapshot(), plan: src.Plan(),
		outcomes: src.Outcomes(), counters: src.Counters(), info: src.Info(),
	}
	m.decided = m.snap != nil && m.plan != nil
	if m.snap == nil {
		m.snap = &decide.Snapshot{}
	}
	if m.plan == nil {
		m.plan = &decide.Plan{}
	}
	return m
}

// statusOf makes the whole status.
func statusOf(m moment) Status {
	j := judge(m)
	st := Status{
		SchemaVersion: SchemaVersion,
		At:            m.now.UTC(),
		Self:          selfOf(m, j.state),
		Members:       membersOf(m),
		Sites:         make([]Site, 0, len(m.plan.Sites)),
		Routes:        make([]Route, 0, len(m.plan.Routes)),
		Leader:        leaderOf(m),
		Hands:         make([]Hand, 0, len(m.outcomes)),
		Counters:      map[string]uint64{},
		Health:        j.found,
	}
	names := namesOf(m.snap)
	for _, s := range m.plan.Sites {
		st.Sites = append(st.Sites, siteOf(m.now, s, names))
	}
	for _, r := range m.plan.Routes {
		st.Routes = append(st.Routes, routeOf(r))
	}
	for _, o := range m.outcomes {
		st.Hands = append(st.Hands, Hand{
			Hand: o.Hand, At: when(o.At), Took: SecondsOf(o.Took), Changed: o.Changed,
			Err: o.Err, Fails: o.Fails, Next: when(o.Next),
		})
	}
	for k, v := range m.counters {
		st.Counters[k] = v
	}
	return st
}

func selfOf(m moment, state string) Self {
	id := m.snap.Self
	s := Self{
		ID: string(id.ID), Name: id.Name, Site: id.Site, Role: string(id.Role), Addr: text(id.Addr),
		Mesh: m.info.Mesh, Version: m.info.Version, State: state,
		Backend: m.info.Backend, BackendReason: m.info.BackendReason,
		Interface: m.info.Interface, StateDir: m.info.StateDir,
		Started: when(m.info.Started), NotAfter: when(id.NotAfter),
	}
	if d := m.snap.Device; d != nil {
		s.ListenPort, s.MTU = d.ListenPort, d.MTU
		if s.Backend == "" {
			s.Backend = string(d.Backend)
		}
		if s.Interface == "" {
			s.Interface = d.Interface
		}
	}
	return s
}

func leaderOf(m moment) Leader {
	id := m.plan.Leader
	return Leader{
		ID: string(id), Name: namesOf(m.snap)[id], Reason: string(m.plan.LeaderReason),
		Self: id != "" && id == m.snap.Self.ID,
	}
}

func siteOf(now time.Time, s decide.SiteStatus, names map[discovery.NodeID]string) Site {
	out := Site{
		Site: s.Site, Verdict: string(s.Verdict), Reason: string(s.Reason), Since: when(s.Since),
		Nodes: s.Nodes, Proven: s.Proven, LastSeen: when(s.LastSeen),
		Views: make([]View, 0, len(s.Views)+1),
	}
	if s.Own.State != "" {
		out.Views = append(out.Views, viewOf(now, s.Own, names))
	}
	for _, v := range s.Views {
		out.Views = append(out.Views, viewOf(now, v, names))
	}
	return out
}

func viewOf(now time.Time, v discovery.View, names map[discovery.NodeID]string) View {
	out := View{Observer: names[v.Observer], State: string(v.State), Age: age(now, v.Heard)}
	if out.Observer == "" {
		out.Observer = v.Observer.Short()
	}
	if v.LastProof >= 0 {
		s := SecondsOf(v.LastProof)
		out.LastProof = &s
	}
	return out
}

func routeOf(r decide.RouteStatus) Route {
	out := Route{Route: r.Route, State: r.State, Until: when(r.Until), Pools: make([]Pool, 0, len(r.Pools))}
	for _, p := range r.Pools {
		out.Pools = append(out.Pools, Pool{
			Pool: p.Pool, Site: p.Site, Now: p.Now, Goal: p.Goal, Normal: p.Normal,
			Healthy: p.Healthy, Registered: p.Registered, Reason: string(p.Reason),
		})
	}
	return out
}

// planOf asks the cloud hands what they would do.
func planOf(ctx context.Context, m moment, src Source) (Plan, error) {
	calls, err := src.Calls(ctx)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{SchemaVersion: SchemaVersion, Leader: leaderOf(m), Calls: make([]Call, 0, len(calls))}
	for _, c := range calls {
		p.Calls = append(p.Calls, Call{
			Service: c.Service, Action: c.Action, Object: c.Object, Detail: c.Detail, Reason: string(c.Reason),
		})
	}
	return p, nil
}
