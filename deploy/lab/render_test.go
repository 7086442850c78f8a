package lab

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/config"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

var testSeed = cloudSeed{
	Region: "us-east-1",
	Rule:   "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener-rule/app/lb-1/50dc6c495c000001/50dc6c495c000002/50dc6c495c000003",
	Groups: map[string]string{
		PoolRoom:  "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/onprem/50dc6c495c000004",
		PoolCloud: "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/cloud/50dc6c495c000005",
	},
	Table: tableID,
	ENIs:  map[string]string{"gw-a": "eni-0e000000000000001", "gw-b": "eni-0e000000000000002"},
}

// TestConfigIsUnderstood reads what the lab writes with the agent's own reader.
func TestConfigIsUnderstood(t *testing.T) {
	read := func(t *testing.T, mode Mode, n Node) config.Settings {
		t.Helper()
		b := renderConfig(agentPlan{
			Node: n, Mode: mode, Socket: "/run/lab/" + n.Name + "/agent.sock", Pace: DemoPace(),
			Cloud: testSeed, AWS: "http://172.31.1.5:4566", Weight: normalWeights,
		})
		s, err := config.Parse(n.Name, bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		return s
	}
	m := namespacesMap(1)

	gw := read(t, Namespaces, m.Nodes[1])
	want := config.AWS{
		Region: "us-east-1", EndpointURL: "http://172.31.1.5:4566", ENI: "eni-0e000000000000002",
		RouteTables: []string{tableID}, Poll: 2 * time.Second,
	}
	if d := cmp.Diff(want, gw.AWS); d != "" {
		t.Errorf("aws (-want +got)\n%s", d)
	}
	wantRoute := discovery.Route{
		Name: "api", Rule: testSeed.Rule, Policy: discovery.PolicyStatic,
		Pools: []discovery.Pool{
			{Name: "onprem", Site: "idc", Service: "web", TargetGroup: testSeed.Groups[PoolRoom], Weight: 70},
			{Name: "cloud", TargetGroup: testSeed.Groups[PoolCloud], Weight: 30},
		},
		HoldDown: 5 * time.Second, HoldMax: 30 * time.Minute,
		Ramp: []int{10, 25, 50, 100}, RampStep: 3 * time.Second,
	}
	if d := cmp.Diff([]discovery.Route{wantRoute}, gw.Routes); d != "" {
		t.Errorf("routes (-want +got)\n%s", d)
	}
	if gw.Backend != tunnel.Userspace || gw.ListenPort != 51820 || len(gw.Services) != 0 {
		t.Errorf("gateway: backend %s, port %d, services %v", gw.Backend, gw.ListenPort, gw.Services)
	}
	if gw.Enrolment.NodeLife != config.Default().Enrolment.NodeLife {
		t.Errorf("certificates live for %s, want the default", gw.Enrolment.NodeLife)
	}
	// Detection is never tuned for the show.
	if d := cmp.Diff(config.Default().Timing, gw.Timing); d != "" {
		t.Errorf("timing (-want +got)\n%s", d)
	}

	server := read(t, Namespaces, m.Nodes[2])
	if len(server.Routes) != 0 || len(server.Services) != 1 || server.Services[0].Check.Path != "/healthz" {
		t.Errorf("server: %+v", server)
	}

	app := netip.MustParseAddrPort("127.0.0.1:20001")
	server = read(t, Loopback, Node{Name: "gpu-1", Site: SiteRoom, ListenPort: 20000, App: app})
	if server.Backend != tunnel.Netstack || server.Services[0].To != app || server.Services[0].Port != 8080 {
		t.Errorf("server on loopback: %+v", server)
	}
	proxy := netip.MustParseAddrPort("127.0.0.1:20002")
	gw = read(t, Loopback, Node{
		Name: "gw-a", Site: SiteCloud, Gateway: true, ListenPort: 20003, Proxy: proxy,
		Endpoint: netip.MustParseAddrPort("127.0.0.1:20004"),
	})
	short, err := config.Parse("gw-a", bytes.NewReader(renderConfig(agentPlan{
		Node: m.Nodes[0], Mode: Namespaces, Socket: "/run/lab/gw-a/agent.sock", Pace: DemoPace(),
		Cloud: testSeed, AWS: "http://172.31.1.5:4566", Weight: normalWeights, NodeLife: time.Minute,
	})))
	if err != nil || short.Enrolment.NodeLife != time.Minute {
		t.Errorf("certificates live for %s, want a minute; %v", short.Enrolment.NodeLife, err)
	}
	if gw.ConnectProxy != proxy.String() || gw.Backend != tunnel.Netstack {
		t.Errorf("gateway on loopback: %+v", gw)
	}
}
