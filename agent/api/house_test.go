package api

import (
	"context"
	"net/netip"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// house is a source whose facts a test sets.
type house struct {
	snap     *decide.Snapshot
	plan     *decide.Plan
	outcomes []reconcile.Outcome
	calls    func(ctx context.Context) ([]discovery.Call, error)
	counters map[string]uint64
	journal  Journal
	info     Info
	trust    Trust
}

func (h *house) Snapshot() *decide.Snapshot    { return h.snap }
func (h *house) Plan() *decide.Plan            { return h.plan }
func (h *house) Outcomes() []reconcile.Outcome { return h.outcomes }
func (h *house) Counters() map[string]uint64   { return h.counters }
func (h *house) Events(since uint64) []Event   { return h.journal.Since(since) }
func (h *house) Info() Info                    { return h.info }
func (h *house) Trust() Trust                  { return h.trust }

func (h *house) Calls(ctx context.Context) ([]discovery.Call, error) {
	if h.calls == nil {
		return nil, nil
	}
	return h.calls(ctx)
}

// noon is the present of every test of views.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func node(n byte, name, site string, role discovery.Role) discovery.Identity {
	return discovery.Identity{
		ID: discovery.NodeID(string([]byte{'a' + n}) + "0000000000000000000000000000000"), Name: name, Site: site, Role: role,
		Addr: netip.AddrFrom4([4]byte{10, 77, 0, n}), WireGuard: [32]byte{n}, NotAfter: noon.Add(240 * time.Hour),
	}
}

func host(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, 32)} }

// roomGoesDark is gateway gw-a a minute after the machine room fell silent:
// gpu-1 had dialled it, gpu-2 hangs behind gateway gw-b, gpu-3 never came.
func roomGoesDark() *house {
	gwA, gwB := node(1, "gw-a", "aws", discovery.RoleGateway), node(2, "gw-b", "aws", discovery.RoleGateway)
	gpu1, gpu2 := node(3, "gpu-1", "idc-seoul", discovery.RoleServer), node(4, "gpu-2", "idc-seoul", discovery.RoleServer)
	gpu3 := node(5, "gpu-3", "idc-seoul", discovery.RoleServer)
	llm := discovery.Service{Name: "llm", Port: 8080, Check: discovery.CheckPassing, Capacity: 4}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	return &house{
		info: Info{
			Mesh: "acme", Version: "v1.2.3", Backend: "tun", BackendReason: "permitted to create one",
			Interface: "drawbridge0", Started: ago(time.Hour), StateDir: "/var/lib/drawbridge",
		},
		snap: &decide.Snapshot{
			Version: 7, Self: gwA, Settled: true,
			Members: []discovery.Member{
				{Record: discovery.Record{Identity: gwA}, State: discovery.StateAlive},
				{Record: discovery.Record{Identity: gwB}, State: discovery.StateAlive},
				{Record: discovery.Record{Identity: gpu1, Announcement: discovery.Announcement{Services: []discovery.Service{llm}, Version: "v1.2.2"}}, State: discovery.StateSuspect},
				{Record: discovery.Record{Identity: gpu2, Announcement: discovery.Announcement{Draining: true}}, State: discovery.StateDead},
				{Record: discovery.Record{Identity: gpu3}, State: discovery.StateKnown},
			},
			Sight: discovery.Sight{Observations: []discovery.Observation{
				{Node: gwB.ID, Proof: ago(50 * time.Millisecond), RTT: 800 * time.Microsecond},
				{Node: gpu1.ID, Proof: ago(61 * time.Second), RTT: 8 * time.Millisecond},
			}},
			Device: &tunnel.Status{
				Backend: tunnel.Userspace, Interface: "drawbridge0", ListenPort: 51820, MTU: 1280,
				Peers: []tunnel.PeerStatus{
					{Key: gwB.WireGuard, Endpoint: netip.MustParseAddrPort("10.0.2.10:51820"), LastHandshake: ago(90 * time.Second), RxBytes: 5000, TxBytes: 6000},
					{Key: gpu1.WireGuard, Endpoint: netip.MustParseAddrPort("203.0.113.9:40001"), LastHandshake: ago(100 * time.Second), RxBytes: 1 << 20, TxBytes: 300},
				},
			},
		},
		plan: &decide.Plan{
			Snapshot: 7, Leader: gwA.ID, LeaderReason: discovery.ReasonNormal,
			Peers: []tunnel.Peer{
				{Key: gwB.WireGuard, AllowedIPs: append(host(gwB.Addr), host(gpu2.Addr)...)},
				{Key: gpu1.WireGuard, AllowedIPs: host(gpu1.Addr)},
				{Key: gpu3.WireGuard, AllowedIPs: host(gpu3.Addr)},
			},
			Paths: []decide.PathStatus{ // sorted by node
				{Node: gwB.ID, MTU: 8941, Measured: true, At: ago(time.Second)},
				{Node: gpu1.ID, MTU: 1328, Measured: true, At: ago(time.Second), Hole: ago(time.Minute), Was: 1440},
				{Node: gpu3.ID, MTU: 1280, Searching: true},
			},
			Sites: []decide.SiteStatus{{
				Site: "idc-seoul", Verdict: decide.Dark, Reason: discovery.ReasonAllDark, Since: ago(time.Minute),
				Nodes: 3, Proven: 0, LastSeen: ago(61 * time.Second),
				Own:   discovery.View{Observer: gwA.ID, Site: "idc-seoul", State: discovery.ViewDark, LastProof: 61 * time.Second, Heard: ago(10 * time.Millisecond)},
				Views: []discovery.View{{Observer: gwB.ID, Site: "idc-seoul", State: discovery.ViewDark, LastProof: -1, Heard: ago(100 * time.Millisecond)}},
			}},
			Routes: []decide.RouteStatus{{
				Route: "chat", State: "dark",
				Pools: []decide.PoolStatus{
					{Pool: "gpu", Site: "idc-seoul", Now: 100, Goal: 0, Normal: 100, Healthy: -1, Registered: -1, Reason: discovery.ReasonSiteDark},
					{Pool: "cloud", Now: 0, Goal: 100, Normal: 0, Healthy: 2, Registered: 2, Reason: discovery.ReasonNormal},
				},
			}},
			Health: []decide.Health{{Code: "site-dark", Severity: decide.Broken, Subject: "idc-seoul", Text: "no node answers any gateway", Next: "look at the uplink of idc-seoul"}},
		},
		outcomes: []reconcile.Outcome{
			{Hand: "device", At: ago(time.Minute), Took: 3 * time.Millisecond, Changed: 1},
			{Hand: "elb", At: ago(time.Second), Took: 250 * time.Millisecond, Err: "throttled by AWS", Fails: 3, Next: noon.Add(time.Second)},
		},
		counters: map[string]uint64{"pulses_sent": 12},
	}
}
