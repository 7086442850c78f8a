package decide

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// small is a mesh of two gateways and three servers that has settled.
func small() *stage {
	g := newStage()
	svc := discovery.Service{Name: "api", Port: 8080, Check: discovery.CheckPassing}
	g.add("gw-a", "aws", discovery.RoleGateway, "eni-a")
	g.add("gw-b", "aws", discovery.RoleGateway, "eni-b")
	for i := range 3 {
		g.add(fmt.Sprintf("gpu-%d", i), "idc", discovery.RoleServer, "", svc)
	}
	g.routes = []discovery.Route{{Name: "web", Rule: "web", Pools: []discovery.Pool{
		{Name: "idc", Site: "idc", Service: "api", TargetGroup: "tg-idc", Weight: 70},
		{Name: "aws", TargetGroup: "tg-aws", Weight: 30},
	}}}
	g.tables = []string{"rtb-1"}
	g.aws.weights["web"] = map[string]int{"tg-idc": 70, "tg-aws": 30}
	g.aws.targets["tg-idc"] = nil
	g.aws.outside["tg-aws"] = [2]int{2, 2}
	g.aws.hops["rtb-1"] = "eni-a"
	g.run(20 * time.Second)
	return g
}

func TestLeaderByLease(t *testing.T) {
	g := small()
	a := g.actor("gw-a")
	b := g.actor("gw-b")
	for _, c := range []struct {
		name  string
		lease *Lease
		want  discovery.NodeID
		why   discovery.Reason
		write bool
	}{
		{"no store", nil, a.ID, discovery.ReasonLowest, true},
		{"held by us", &Lease{a.ID, g.now.Add(time.Second)}, a.ID, discovery.ReasonLease, true},
		{"held by another", &Lease{b.ID, g.now.Add(time.Second)}, b.ID, discovery.ReasonLease, false},
		{"run out", &Lease{a.ID, g.now}, "", discovery.ReasonNoLease, false},
		{"nobody's", &Lease{}, "", discovery.ReasonNoLease, false},
	} {
		s := g.snapshot(a)
		s.Lease = c.lease
		_, p := Decide(g.now, a.mem, s)
		if p.Leader != c.want || p.LeaderReason != c.why || p.Cloud.Write != c.write {
			t.Errorf("%s: leader %q (%s), write %v", c.name, p.Leader, p.LeaderReason, p.Cloud.Write)
		}
	}
	a.Draining = true
	if _, p := Decide(g.now, a.mem, g.snapshot(a)); p.Leader != b.ID {
		t.Errorf("a draining gateway leads")
	}
	b.Draining = true
	if _, p := Decide(g.now, a.mem, g.snapshot(a)); p.Leader != a.ID {
		t.Errorf("all drain: nobody leads")
	}
}

func TestFilterAndForwards(t *testing.T) {
	g := small()
	gpu := g.actor("gpu-0")
	s := g.snapshot(gpu)
	s.Services = []discovery.ServiceSpec{{Name: "b", Port: 9000}, {Name: "a", Port: 8080, To: netip.MustParseAddrPort("127.0.0.1:80")}}
	_, p := Decide(g.now, Memory{}, s)
	want := &tunnel.Filter{
		Interface: "drawbridge0", Mesh: netip.MustParsePrefix("10.77.0.0/16"), Self: gpu.Addr,
		Gateways: []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2")},
		Control:  []uint16{53, 7946}, Services: []uint16{8080, 9000}, MTU: tunnel.DefaultMTU,
	}
	if !p.Filter.Equal(want) || p.Forwards != nil {
		t.Errorf("filter %+v, forwards %v", p.Filter, p.Forwards)
	}
	s.Settings.Interface = ""
	_, p = Decide(g.now, Memory{}, s)
	forwards := []tunnel.Forward{{Port: 8080, To: netip.MustParseAddrPort("127.0.0.1:80")}, {Port: 9000, To: netip.MustParseAddrPort("127.0.0.1:9000")}}
	if p.Filter != nil || !slices.Equal(p.Forwards, forwards) {
		t.Errorf("netstack: filter %+v, forwards %v", p.Filter, p.Forwards)
	}
	if _, p = Decide(g.now, Memory{}, g.snapshot(g.actor("gw-a"))); !p.Filter.Forward {
		t.Error("a gateway does not forward")
	}
}

func TestProbeWish(t *testing.T) {
	g := small()
	for i := range 40 {
		g.add(fmt.Sprintf("big-%02d", i), "big", discovery.RoleServer, "")
	}
	g.add("app-1", "aws", discovery.RoleServer, "")
	g.run(5 * time.Second)
	a, b := g.actor("gw-a").plan.Probe, g.actor("gw-b").plan.Probe
	groups := func(w *discovery.ProbeWish) map[string]int {
		n := map[string]int{}
		for _, p := range w.Peers {
			n[p.Site+"/"+p.Group]++
			if p.Quiet != (p.Site == "big" && p.Group == "") {
				t.Errorf("%s in group %q, quiet %t", p.Node, p.Group, p.Quiet)
			}
		}
		return n
	}
	if diff := cmp.Diff(map[string]int{"big/big": 16, "big/": 24, "idc/idc": 3, "aws/": 2}, groups(a)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	picked := func(w *discovery.ProbeWish) (ids []discovery.NodeID) {
		for _, p := range w.Peers {
			if p.Group == "big" {
				ids = append(ids, p.Node)
			}
		}
		return ids
	}
	if !slices.Equal(picked(a), picked(b)) {
		t.Error("gateways probe different nodes")
	}
	if a.Interval != 100*time.Millisecond || a.EchoAfter != 400*time.Millisecond || len(a.Views) != 2 {
		t.Errorf("interval %s, echo %s, %d views", a.Interval, a.EchoAfter, len(a.Views))
	}
	s := g.actor("gpu-0").plan.Probe
	if !s.OnDemand || s.IdleInterval != time.Second || len(s.Peers) != 2 || s.Peers[0].Tell {
		t.Errorf("a server wishes for %+v", s)
	}
	// Silence widens the search.
	g.cuts[[2]string{"big", "*"}] = true
	g.run(600 * time.Millisecond)
	if n := groups(g.actor("gw-a").plan.Probe)["big/big"]; n != 40 {
		t.Errorf("%d nodes are asked after half a second of silence, want all 40", n)
	}
}

func TestServerOutsideTheProbedIsPatient(t *testing.T) {
	g := small()
	for i := range 40 {
		g.add(fmt.Sprintf("big-%02d", i), "big", discovery.RoleServer, "")
	}
	g.run(5 * time.Second)
	probed := map[discovery.NodeID]bool{}
	for _, p := range g.actor("gw-a").plan.Probe.Peers {
		probed[p.Node] = !p.Quiet
	}
	g.actor("gw-a").dead = true
	g.run(2 * time.Second)
	for _, n := range g.nodes {
		if n.Site != "big" {
			continue
		}
		forced := slices.ContainsFunc(n.mem.Epochs, func(e EpochMemory) bool { return e.Epoch > 0 })
		if forced != probed[n.ID] {
			t.Errorf("%s, probed %v: forced a handshake after 2 s: %v", n.Name, probed[n.ID], forced)
		}
	}
}

func TestRememberedEndpointOfServers(t *testing.T) {
	g := small()
	a := g.actor("gw-a")
	s := g.snapshot(a)
	s.Endpoints = []discovery.Endpoint{{Node: g.actor("gpu-1").ID, Addr: netip.MustParseAddrPort("198.51.100.7:4000")}}
	_, p := Decide(g.now, a.mem, s)
	for _, peer := range p.Peers {
		want := netip.AddrPort{}
		switch peer.Key {
		case keyOf(g.actor("gpu-1")):
			want = netip.MustParseAddrPort("198.51.100.7:4000")
		case keyOf(g.actor("gw-b")):
			want = g.actor("gw-b").Endpoints[0]
		}
		if peer.Endpoint != want {
			t.Errorf("endpoint %s, want %s", peer.Endpoint, want)
		}
	}
	s.Members = nil
	if _, p = Decide(g.now, a.mem, s); p.Peers != nil {
		t.Errorf("without an own record: peers %v, want keep", p.Peers)
	}
}

func TestCertificateHealth(t *testing.T) {
	g := small()
	a := g.actor("gw-a")
	for _, c := range []struct {
		left time.Duration
		want Severity
	}{{11 * 24 * time.Hour, ""}, {9 * 24 * time.Hour, Warning}, {time.Hour, Broken}, {-time.Hour, Broken}} {
		s := g.snapshot(a)
		s.Self.NotAfter = g.now.Add(c.left)
		code := "certificate-expiring"
		if c.left <= 0 {
			code = "certificate-expired"
		}
		_, p := Decide(g.now, a.mem, s)
		if got := severityOf(p, code); got != c.want {
			t.Errorf("%s left: %q, want %q", c.left, got, c.want)
		}
	}
}

func severityOf(p *Plan, code string) Severity {
	for _, h := range p.Health {
		if h.Code == code {
			return h.Severity
		}
	}
	return ""
}

func TestTrustHealth(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name string
		code string
		set  func(s *Snapshot, now time.Time)
		want Severity
	}{
		{"own revocation", "revoked", func(s *Snapshot, _ time.Time) { s.Trust.Revoked = "operator" }, Broken},
		{"short life, two thirds gone", "certificate-expiring", func(s *Snapshot, now time.Time) {
			s.Trust.Life, s.Self.NotAfter = time.Hour, now.Add(19*time.Minute)
		}, Warning},
		{"short life, half gone", "certificate-expiring", func(s *Snapshot, now time.Time) {
			s.Trust.Life, s.Self.NotAfter = time.Hour, now.Add(29*time.Minute)
		}, ""},
		{"renewal failed just now", "renewal-failing", func(s *Snapshot, now time.Time) {
			s.Trust.RenewErr, s.Trust.RenewSince = "no gateway", now.Add(-time.Hour)
		}, ""},
		{"renewal failed for days", "renewal-failing", func(s *Snapshot, now time.Time) {
			s.Trust.RenewErr, s.Trust.RenewSince = "no gateway", now.Add(-2*day)
		}, Warning},
		{"issuer with half a year", "issuer-expiring", func(s *Snapshot, now time.Time) { s.Trust.IssuerEnds = now.Add(180 * day) }, ""},
		{"issuer with two months", "issuer-expiring", func(s *Snapshot, now time.Time) { s.Trust.IssuerEnds = now.Add(60 * day) }, Warning},
		{"issuer with a week", "issuer-expiring", func(s *Snapshot, now time.Time) { s.Trust.IssuerEnds = now.Add(7 * day) }, Broken},
		{"clocks agree", "clock-skew", func(s *Snapshot, _ time.Time) { s.Trust.Skew, s.Trust.SkewWith = 29*time.Second, "gw-a" }, ""},
		{"clock a minute ahead", "clock-skew", func(s *Snapshot, _ time.Time) { s.Trust.Skew, s.Trust.SkewWith = time.Minute, "gw-a" }, Warning},
		{"clock of 1970", "clock-skew", func(s *Snapshot, now time.Time) { s.Trust.Skew, s.Trust.SkewWith = -now.Sub(time.Unix(0, 0)), "gw-a" }, Broken},
		{"never compared", "clock-skew", func(s *Snapshot, _ time.Time) { s.Trust.Skew = time.Hour }, ""},
		{"another's certificate ended", "peer-certificate-expired", func(s *Snapshot, now time.Time) { s.Members[2].NotAfter = now.Add(-day) }, Warning},
		{"a name twice", "name-conflict", func(s *Snapshot, _ time.Time) { s.Members[2].Name = s.Members[3].Name }, Warning},
		{"a name once", "name-conflict", func(*Snapshot, time.Time) {}, ""},
		{"a node behind in a rotation", "roots-behind", func(s *Snapshot, _ time.Time) { s.Trust.Behind = []string{"gpu-1"} }, Note},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := small()
			a := g.actor("gw-a")
			s := g.snapshot(a)
			c.set(s, g.now)
			_, p := Decide(g.now, a.mem, s)
			if got := severityOf(p, c.code); got != c.want {
				t.Errorf("%s: %q, want %q", c.code, got, c.want)
			}
		})
	}
}

func TestMemorySurvivesJSON(t *testing.T) {
	g := small()
	g.cuts[[2]string{"idc", "*"}] = true
	g.actor("gpu-1").dead = true
	g.run(20 * time.Second)
	clear(g.cuts)
	g.run(10 * time.Second)
	m := g.actor("gw-a").mem
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Memory
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, back, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("-in +out:\n%s", diff)
	}
	if len(m.Routes) != 1 || len(m.Sites) != 1 {
		t.Errorf("memory %s", b)
	}
}

// TestStaleMemory: what was normal before a restart is not written over what
// AWS has now.
func TestStaleMemory(t *testing.T) {
	g := small()
	a, b := g.actor("gw-a"), g.actor("gw-b")
	a.dead, b.dead = true, true
	g.run(time.Minute)
	g.aws.weights["web"]["tg-idc"] = 0
	a.reset(g)
	g.run(10 * time.Second)
	if w := g.aws.weights["web"]["tg-idc"]; w != 0 || a.plan.Routes[0].State != "waiting" {
		t.Errorf("weight %d, route %s", w, a.plan.Routes[0].State)
	}
}

func TestExplainUnknownAndOwn(t *testing.T) {
	g := small()
	a := g.actor("gw-a")
	s := g.snapshot(a)
	if _, ok := Explain(a.plan, s, "nobody"); ok {
		t.Error("explained nobody")
	}
	for subject, want := range map[string]string{
		"aws": "this node's own", "gpu-1": "its own check is passing", a.Addr.String(): "this is the node that answers",
		string(g.actor("gw-b").ID)[:12]: "it last answered this node", "web": "this node writes to AWS", "idc": "site idc is up",
	} {
		lines, ok := Explain(a.plan, s, subject)
		if !ok || !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("%s: %q does not say %q", subject, lines, want)
		}
	}
}

func TestEveryReasonHasAMeaning(t *testing.T) {
	g := small()
	g.check = func(a *actor, _ *Snapshot, _ Memory, p *Plan) {
		for _, r := range p.Routes {
			for _, w := range r.Pools {
				if !strings.Contains(reasonText(w.Reason), "(") {
					t.Errorf("%s has no meaning for people", w.Reason)
				}
			}
		}
		for _, s := range p.Sites {
			if !strings.Contains(reasonText(s.Reason), "(") {
				t.Errorf("%s has no meaning for people", s.Reason)
			}
		}
	}
	g.cuts[[2]string{"idc", "*"}] = true
	g.run(10 * time.Second)
	clear(g.cuts)
	g.run(time.Minute)
}

// TestNobodyToPulse: what is sent to a peer without an endpoint waits in the
// device's memory, so a host that was introduced and never came is not probed.
func TestNobodyToPulse(t *testing.T) {
	g := small()
	a, late := g.actor("gw-a"), g.actor("gpu-1")
	probed := func(age time.Duration, state discovery.MemberState, endpoint netip.AddrPort) bool {
		s := g.snapshot(a)
		for i := range s.Members {
			if s.Members[i].ID == late.ID {
				s.Members[i].State, s.Members[i].Since = state, g.now.Add(-age)
			}
		}
		s.Sight.Observations = nil
		s.Device = &tunnel.Status{Peers: []tunnel.PeerStatus{{Key: keyOf(late), Endpoint: endpoint}}}
		_, p := Decide(g.now, a.mem, s)
		return slices.ContainsFunc(p.Probe.Peers, func(p discovery.ProbePeer) bool { return p.Node == late.ID })
	}
	somewhere := netip.MustParseAddrPort("198.51.100.7:4000")
	for _, c := range []struct {
		name     string
		age      time.Duration
		state    discovery.MemberState
		endpoint netip.AddrPort
		want     bool
	}{
		{"just introduced", time.Second, discovery.StateKnown, netip.AddrPort{}, true},
		{"introduced and never came", time.Minute, discovery.StateKnown, netip.AddrPort{}, false},
		{"came after all", time.Minute, discovery.StateKnown, somewhere, true},
		{"was alive once", time.Hour, discovery.StateDead, netip.AddrPort{}, true},
	} {
		if got := probed(c.age, c.state, c.endpoint); got != c.want {
			t.Errorf("%s: probed %v, want %v", c.name, got, c.want)
		}
	}
}

// TestCrowdHidesNobody: a thousand hosts that were introduced and have not come
// take no place of the nodes whose proof holds the site up.
func TestCrowdHidesNobody(t *testing.T) {
	g := small()
	a := g.actor("gw-a")
	for i := range 1000 {
		g.add(fmt.Sprintf("new-%d", i), "idc", discovery.RoleServer, "")
	}
	s := g.snapshot(a)
	for i := range s.Members {
		m := &s.Members[i]
		m.State, m.Since = discovery.StateAlive, g.now
		if strings.HasPrefix(m.Name, "new-") {
			m.State = discovery.StateKnown
		}
	}
	_, p := Decide(g.now, a.mem, s)
	probed := 0
	for _, q := range p.Probe.Peers {
		if q.Node == g.actor("gpu-1").ID || q.Node == g.actor("gpu-2").ID {
			probed++
		}
	}
	if probed != 2 {
		t.Errorf("%d of the 2 living nodes are probed", probed)
	}
}
