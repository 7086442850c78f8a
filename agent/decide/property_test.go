package decide

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/agent/weight"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// TestHistories runs random histories of a whole mesh and holds the invariants
// at every decision of every node. Between two events pass 5 to 30 s.
// DRAWBRIDGE_SEEDS raises the number of seeds.
func TestHistories(t *testing.T) {
	seeds := 4
	if s, err := strconv.Atoi(os.Getenv("DRAWBRIDGE_SEEDS")); err == nil {
		seeds = s
	}
	steps, direct := 0, 0
	for seed := range seeds {
		h := newHistory(t, uint64(seed))
		steps += h.play(14)
		direct += h.direct
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(h.log, "\n"))
		}
	}
	if steps < 10000 || direct < 10000 {
		t.Fatalf("only %d steps, and %d times a direct path", steps, direct)
	}
	t.Logf("%d steps of 5 nodes", steps)
}

type history struct {
	t    *testing.T
	g    *stage
	r    *rand.Rand
	log  []string
	last map[string]int // weights in the load balancer
	two  time.Time      // when two gateways last both wrote

	direct int // decisions in which a path was direct
}

func newHistory(t *testing.T, seed uint64) *history {
	g := newStage()
	h := &history{t: t, g: g, r: rand.New(rand.NewPCG(seed, 1)), last: map[string]int{}}
	svc := discovery.Service{Name: "api", Port: 8080, Check: discovery.CheckPassing}
	g.add("gw-a", "aws", discovery.RoleGateway, "eni-a")
	g.add("gw-b", "aws", discovery.RoleGateway, "eni-b")
	for i := range 3 {
		g.add(fmt.Sprintf("gpu-%d", i), []string{"idc", "idc", "lab"}[i], discovery.RoleServer, "", svc)
	}
	for i, n := range []string{"gpu-0", "gpu-1", "gpu-2"} {
		// Behind one NAT, so that all are neighbours; one of them says that it
		// lives inside the mesh as well.
		a := g.actor(n)
		a.Seen = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.2:4000")}
		a.Local = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 200, byte(i)}), 51820), netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 50, byte(11 + i)}), 51820)}
	}
	g.routes = []discovery.Route{{
		Name: "web", Rule: "web", Stickiness: time.Hour, HoldDown: 5 * time.Second, HoldMax: time.Minute, RampStep: 2 * time.Second,
		Pools: []discovery.Pool{
			{Name: "idc", Site: "idc", Service: "api", TargetGroup: "tg-idc", Weight: 60},
			{Name: "lab", Site: "lab", Service: "api", TargetGroup: "tg-lab", Weight: 15},
			{Name: "aws", TargetGroup: "tg-aws", Weight: 25},
		},
	}}
	g.tables = []string{"rtb-1"}
	g.timing.StartGrace = 5 * time.Second
	g.aws.weights["web"] = map[string]int{"tg-idc": 60, "tg-lab": 15, "tg-aws": 25}
	g.aws.targets["tg-idc"], g.aws.targets["tg-lab"] = nil, nil
	g.aws.outside["tg-aws"] = [2]int{2, 2}
	g.aws.hops["rtb-1"] = "eni-a"
	g.trace = func(f string, a ...any) {
		h.log = append(h.log, fmt.Sprintf("%8.2f %s", g.now.Sub(g.zero).Seconds(), fmt.Sprintf(f, a...)))
	}
	g.check = h.invariants
	for grp, w := range g.aws.weights["web"] {
		h.last[grp] = w
	}
	return h
}

// play lets so many events happen, with time between them.
func (h *history) play(events int) (steps int) {
	for range events {
		h.event()
		for range 100 + h.r.IntN(500) {
			h.g.step()
			h.written()
			steps++
			if h.t.Failed() {
				return steps
			}
		}
	}
	return steps
}

// event is something that happens to the world.
func (h *history) event() {
	g := h.g
	gw := g.nodes[3+h.r.IntN(2)] // the gateways sort last
	node := g.nodes[h.r.IntN(3)]
	on := h.r.IntN(2) == 0
	what := ""
	switch h.r.IntN(14) {
	case 0, 1:
		what = "idc"
		g.cuts[[2]string{"idc", "*"}] = on
	case 2:
		what = "lab"
		g.cuts[[2]string{"lab", "*"}] = on
	case 3:
		what = gw.Name + "-idc"
		g.cuts[[2]string{gw.Name, "idc"}] = on
	case 4:
		what = "gw-a-gw-b"
		g.cuts[[2]string{"gw-a", "gw-b"}] = on
	case 5:
		what = "kill/start " + gw.Name
		if gw.dead {
			if on {
				gw.mem = Memory{}
			} else {
				gw.mem = viaJSON(h.t, gw.mem)
			}
			gw.reset(g)
		} else {
			gw.dead = true
		}
	case 6:
		what = "pause " + gw.Name
		gw.paused, gw.woke = !gw.paused, g.now
	case 7:
		what = "aws"
		g.aws.cut[gw.Name] = on
	case 8:
		what = "tg-aws"
		g.aws.outside["tg-aws"] = [2]int{h.r.IntN(3), 2}
	case 9:
		what = "kill/start " + node.Name
		if node.dead {
			node.reset(g)
		} else {
			node.dead = true
		}
	case 10:
		what = "send errors " + gw.Name
		gw.sendErr = time.Time{}
		if on {
			gw.sendErr = g.now
		}
	case 12:
		other := g.nodes[h.r.IntN(3)]
		what = "wire " + node.Name + " " + other.Name
		g.lan.cut[pairOf(node.Name, other.Name)] = on
	case 13:
		what = "names of " + gw.Name
		g.resolved = nil
		if on {
			g.resolved = []discovery.Endpoint{{Node: gw.ID, Addr: netip.MustParseAddrPort("10.77.3.3:51820")}, {Node: gw.ID, Addr: netip.MustParseAddrPort("203.0.113.77:51820")}}
		}
	case 11:
		what = "heal"
		clear(g.cuts)
		clear(g.aws.cut)
	}
	g.trace("--- %s %v", what, on)
}

// invariants hold at every decision of every node.
func (h *history) invariants(a *actor, s *Snapshot, old Memory, p *Plan) {
	h.deterministic(a, s, old, p)
	h.peers(a, s, p)
	for _, st := range p.Sites {
		h.votes(a, s, &st)
	}
	if p.Cloud == nil {
		return
	}
	if p.Cloud.Write != (p.Leader == a.ID && a.mem.Settled) {
		h.fail(a, "writes without being leader, or before settling")
	}
	for _, w := range p.Cloud.Splits {
		h.splits(a, p, &w)
	}
	for _, w := range p.Cloud.Targets {
		h.targets(a, s, &w)
	}
}

// peers: no address stands at two peers, every other node is carried by one,
// and nothing inside the mesh is dialled. A neighbour that is not said to be one
// carries nothing.
func (h *history) peers(a *actor, s *Snapshot, p *Plan) {
	at := map[netip.Prefix]bool{}
	for _, q := range p.Peers {
		if q.Endpoint.IsValid() && s.Settings.Mesh.Contains(q.Endpoint.Addr()) {
			h.fail(a, "dials "+q.Endpoint.String())
		}
		for _, ip := range q.AllowedIPs {
			if at[ip] {
				h.fail(a, ip.String()+" stands at two peers")
			}
			at[ip] = true
		}
	}
	if len(at) != len(s.Members)-1 {
		h.fail(a, fmt.Sprintf("reaches %d of %d nodes", len(at), len(s.Members)-1))
	}
	for i := range s.Members {
		m := &s.Members[i]
		by, _ := Carrier(p.Peers, m.Addr)
		if a.Role == discovery.RoleServer && m.Role == discovery.RoleServer && by == tunnel.Key(m.WireGuard) {
			h.direct++
			if !has(m.Direct, a.Addr) || !has(a.Direct, m.Addr) {
				h.fail(a, "goes directly to "+m.Name+" without both having said so")
			}
		}
	}
}

// deterministic: the same again gives the same, also from a memory that was on
// disk, and nothing given is changed.
func (h *history) deterministic(a *actor, s *Snapshot, old Memory, p *Plan) {
	if h.r.IntN(20) != 0 {
		return
	}
	before := toJSON(h.t, old)
	_, again := Decide(h.g.now, viaJSON(h.t, old), s)
	if diff := cmp.Diff(p, again, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		h.fail(a, "two answers to one question:\n"+diff)
	}
	if after := toJSON(h.t, old); after != before {
		h.fail(a, "memory changed in place")
	}
}

// votes: I5, no darkness against a fresh word of light; I11, no dark vote of
// the blind or starting.
func (h *history) votes(a *actor, s *Snapshot, st *SiteStatus) {
	if st.Own.State == discovery.ViewDark {
		started := h.g.now.Sub(s.Sight.Started)
		if st.LastSeen.IsZero() && started < h.g.timing.StartGrace || s.Sight.SendErr != "" && h.g.now.Sub(s.Sight.SendErrSince) > time.Second {
			h.fail(a, "I11: a blind observer votes dark")
		}
		if !s.Sight.Paused.IsZero() && h.g.now.Sub(s.Sight.Paused) < time.Second && !st.LastSeen.After(s.Sight.Paused) {
			h.fail(a, "I11: votes dark after a pause")
		}
	}
	if st.Verdict != Dark {
		return
	}
	if st.Own.State != discovery.ViewDark {
		h.fail(a, "dark without an own dark view")
	}
	for _, v := range s.Views {
		if v.Site == st.Site && v.State == discovery.ViewLit && h.g.now.Sub(v.Heard) <= 300*time.Millisecond {
			h.fail(a, "I5: dark although "+string(v.Observer)+" says lit")
		}
	}
}

// splits: I1, never all zero; nothing for the undecided; cookies off with a 0.
func (h *history) splits(a *actor, p *Plan, w *discovery.SplitWish) {
	sum, zero := 0, false
	for _, gw := range w.Weights {
		sum += gw.Weight
		zero = zero || gw.Weight == 0
	}
	if sum == 0 {
		h.fail(a, "I1: all weights 0")
	}
	if zero && (w.Stickiness == nil || *w.Stickiness != 0) {
		h.fail(a, "weight 0 with cookies left on")
	}
	for _, st := range p.Sites {
		if st.Verdict != Undecided {
			continue
		}
		for _, gw := range w.Weights {
			if gw.Group == "tg-"+st.Site {
				h.fail(a, "a weight for undecided "+st.Site)
			}
		}
	}
}

// targets: I12, the last healthy one stays; nothing moves unless the site is up.
func (h *history) targets(a *actor, s *Snapshot, w *discovery.TargetWish) {
	site := strings.TrimPrefix(w.Group, "tg-")
	for _, st := range a.plan.Sites {
		if st.Site == site && st.Verdict != Up {
			h.fail(a, "targets of a site that is not up")
		}
	}
	healthy, kept := 0, 0
	for _, g := range s.Cloud.Groups {
		if g.ID != w.Group {
			continue
		}
		for _, t := range g.Targets {
			if t.State != discovery.TargetHealthy {
				continue
			}
			healthy++
			for _, r := range w.Targets {
				if r.Addr.String() == t.ID && r.Port == t.Port {
					kept++
				}
			}
		}
	}
	if healthy > 0 && kept == 0 {
		h.fail(a, "I12: the last healthy target would go")
	}
}

// written: what AWS was told changed in a planned way: to 0, or one step up.
func (h *history) written() {
	writers := 0
	for _, a := range h.g.nodes {
		if !a.dead && a.plan != nil && a.plan.Cloud != nil && a.plan.Cloud.Write {
			writers++
		}
	}
	if writers > 1 {
		h.two = h.g.now
	}
	now := h.g.aws.weights["web"]
	if now["tg-idc"]+now["tg-lab"]+now["tg-aws"] == 0 {
		h.fail(h.g.nodes[0], "I1: all weights 0 in AWS")
	}
	for _, p := range h.g.routes[0].Pools {
		was, is := h.last[p.TargetGroup], now[p.TargetGroup]
		h.last[p.TargetGroup] = is
		if is == was || is == 0 || p.Outside() {
			continue
		}
		steps := []int{0, max(1, p.Weight*10/100), max(1, p.Weight*25/100), max(1, p.Weight*50/100), p.Weight}
		planned := false
		for i := 1; i < len(steps); i++ {
			planned = planned || was == steps[i-1] && is == steps[i]
		}
		// The jumps that are allowed: nothing else could serve; or two
		// gateways that cannot hear each other write without a lease store,
		// and one of them undoes the other once.
		rescued := is == p.Weight && h.g.aws.outside["tg-aws"][0] == 0
		split := h.g.now.Sub(h.two) < 10*time.Second
		if !planned && !rescued && !split {
			h.fail(h.g.nodes[0], fmt.Sprintf("pool %s jumps from %d to %d", p.Name, was, is))
		}
	}
}

func (h *history) fail(a *actor, why string) {
	h.t.Errorf("%8.2f %s: %s", h.g.now.Sub(h.g.zero).Seconds(), a.Name, why)
}

func toJSON(t *testing.T, m Memory) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func viaJSON(t *testing.T, m Memory) Memory {
	t.Helper()
	var out Memory
	if err := json.Unmarshal([]byte(toJSON(t, m)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAllUndecidedMovesNothing: whatever phase a route is in, an undecided
// verdict on all of its sites plans nothing.
func TestAllUndecidedMovesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		phases := []weight.Phase{"", weight.Normal, weight.Down, weight.Waiting, weight.Ramping}
		m := weight.Memory{Pools: []weight.PoolMemory{{
			Pool: "idc", Phase: phases[r.IntN(len(phases))], Since: now.Add(-time.Duration(r.IntN(1000)) * time.Second), Step: r.IntN(4), Shifted: r.IntN(2) == 0,
		}}}
		_, a := weight.Next(now, m, weight.Route{Read: now, Writer: r.IntN(2) == 0, Pools: []weight.Pool{
			{Name: "idc", Light: weight.Unknown, Normal: 70, Now: r.IntN(71), Healthy: r.IntN(3), Registered: 2, Read: now},
			{Name: "aws", Outside: true, Light: weight.Up, Normal: 30, Now: r.IntN(31), Healthy: r.IntN(3), Registered: 2, Read: now},
		}})
		if a.State != weight.Keep || a.Goals[0].Weight != -1 || a.Goals[1].Weight != -1 {
			t.Fatalf("planned %+v from %+v", a, m)
		}
	}
}
