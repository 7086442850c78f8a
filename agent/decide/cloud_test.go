package decide

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"drawbridge/discovery"
)

// fakeCloud is a load balancer and VPC of the stage: it keeps what was written,
// checks targets slowly, and can be cut off.
type fakeCloud struct {
	weights  map[string]map[string]int // rule, group
	sticky   map[string]bool
	targets  map[string][]discovery.Target // ours, by group
	outside  map[string][2]int             // healthy, registered
	frozen   map[string]int                // healthy count that a story dictates
	since    map[string]time.Time          // of a target's present reachability
	hops     map[string]string
	cut      map[string]bool // nodes without a path to AWS
	local    []netip.Prefix  // the VPC's own networks
	readOnly bool
	writes   int
}

func newFakeCloud() *fakeCloud {
	return &fakeCloud{
		weights: map[string]map[string]int{}, sticky: map[string]bool{}, targets: map[string][]discovery.Target{},
		outside: map[string][2]int{}, frozen: map[string]int{}, since: map[string]time.Time{}, hops: map[string]string{}, cut: map[string]bool{},
	}
}

func (f *fakeCloud) reachable(a *actor) bool { return !f.cut[a.Name] && !f.cut["*"] }

// live checks targets: reachable through a living gateway for 10 s is healthy,
// unreachable for 10 s is not.
func (f *fakeCloud) live(g *stage) {
	for group, list := range f.targets {
		for i := range list {
			ok := f.served(g, list[i].ID)
			k := fmt.Sprintf("%s %s %v", group, list[i].ID, ok)
			not := fmt.Sprintf("%s %s %v", group, list[i].ID, !ok)
			if _, known := f.since[k]; !known {
				f.since[k] = g.now
				delete(f.since, not)
			}
			if g.now.Sub(f.since[k]) < 10*time.Second {
				continue
			}
			list[i].State, list[i].Reason = discovery.TargetUnhealthy, "Target.Timeout"
			if ok {
				list[i].State, list[i].Reason = discovery.TargetHealthy, ""
			}
		}
		if n, ok := f.frozen[group]; ok {
			for i := range list {
				list[i].State = discovery.TargetUnhealthy
				if i < n {
					list[i].State = discovery.TargetHealthy
				}
			}
		}
	}
}

func (f *fakeCloud) served(g *stage, addr string) bool {
	for _, n := range g.nodes {
		if n.Addr.String() != addr {
			continue
		}
		for _, gw := range g.nodes {
			if gw.Role == discovery.RoleGateway && g.reach(gw, n) {
				return true
			}
		}
	}
	return false
}

// answer is what an agent gets to know when it reads.
func (f *fakeCloud) answer(g *stage, a *actor) discovery.Readings {
	if !f.reachable(a) {
		return failed(a.reading)
	}
	return f.read(g)
}

// read is a good reading of everything.
func (f *fakeCloud) read(g *stage) discovery.Readings {
	var r discovery.Readings
	for _, rule := range slices.Sorted(maps.Keys(f.weights)) {
		s := discovery.Split{Rule: rule, Read: g.now, Sticky: f.sticky[rule]}
		for _, grp := range slices.Sorted(maps.Keys(f.weights[rule])) {
			s.Weights = append(s.Weights, discovery.GroupWeight{Group: grp, Weight: f.weights[rule][grp]})
		}
		r.Splits = append(r.Splits, s)
	}
	for grp, n := range f.outside {
		tg := discovery.TargetGroup{ID: grp, Read: g.now}
		for i := range n[1] {
			t := discovery.Target{ID: fmt.Sprintf("i-%d", i), Port: 80, State: discovery.TargetUnhealthy}
			if i < n[0] {
				t.State = discovery.TargetHealthy
			}
			tg.Targets = append(tg.Targets, t)
		}
		r.Groups = append(r.Groups, tg)
	}
	for grp, list := range f.targets {
		r.Groups = append(r.Groups, discovery.TargetGroup{ID: grp, Read: g.now, Targets: slices.Clone(list)})
	}
	sort.Slice(r.Groups, func(i, j int) bool { return r.Groups[i].ID < r.Groups[j].ID })
	for _, t := range slices.Sorted(maps.Keys(f.hops)) {
		r.NextHops = append(r.NextHops, discovery.NextHop{Table: t, Read: g.now, ENI: f.hops[t], State: "active", Local: f.local})
	}
	return r
}

// failed keeps the last good readings and says that the newest attempt failed.
func failed(old discovery.Readings) discovery.Readings {
	const why = "no answer within 2s"
	r := discovery.Readings{Groups: slices.Clone(old.Groups), Splits: slices.Clone(old.Splits), NextHops: slices.Clone(old.NextHops)}
	for i := range r.Groups {
		r.Groups[i].Err = why
	}
	for i := range r.Splits {
		r.Splits[i].Err = why
	}
	for i := range r.NextHops {
		r.NextHops[i].Err = why
	}
	return r
}

// apply makes the wish true, and traces what changed.
func (f *fakeCloud) apply(g *stage, w *discovery.CloudWish) {
	if w == nil || !w.Write {
		return
	}
	for _, s := range w.Splits {
		before := f.ruleText(s.Rule)
		for _, gw := range s.Weights {
			f.weights[s.Rule][gw.Group] = gw.Weight
		}
		if s.Stickiness != nil {
			f.sticky[s.Rule] = *s.Stickiness > 0
		}
		if after := f.ruleText(s.Rule); after != before {
			f.writes++
			g.trace("aws: rule %s %s", s.Rule, after)
		}
	}
	for _, h := range w.NextHops {
		if f.hops[h.Table] != h.ENI {
			f.hops[h.Table] = h.ENI
			g.trace("aws: table %s -> %s (%s)", h.Table, h.ENI, h.Reason)
		}
	}
	for _, t := range w.Targets {
		before := f.targetText(t.Group)
		f.register(t)
		if after := f.targetText(t.Group); after != before {
			g.trace("aws: group %s has %s (%s)", t.Group, after, t.Reason)
		}
	}
}

func (f *fakeCloud) register(w discovery.TargetWish) {
	var out []discovery.Target
	for _, r := range w.Targets {
		t := discovery.Target{ID: r.Addr.String(), Port: r.Port, State: discovery.TargetInitial}
		for _, old := range f.targets[w.Group] {
			if old.ID == t.ID && old.Port == t.Port {
				t = old
			}
		}
		out = append(out, t)
	}
	f.targets[w.Group] = out
}

func (f *fakeCloud) ruleText(rule string) string {
	var b []string
	for _, grp := range slices.Sorted(maps.Keys(f.weights[rule])) {
		b = append(b, fmt.Sprintf("%s=%d", grp, f.weights[rule][grp]))
	}
	if f.sticky[rule] {
		b = append(b, "sticky")
	}
	return strings.Join(b, " ")
}

func (f *fakeCloud) targetText(group string) string {
	var refs []string
	for _, t := range f.targets[group] {
		refs = append(refs, fmt.Sprintf("%s:%d", t.ID, t.Port))
	}
	return text(refs)
}

func text(refs []string) string {
	if len(refs) == 0 {
		return "nobody"
	}
	return strings.Join(refs, " ")
}
