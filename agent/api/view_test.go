package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files of testdata")

// golden compares an answer with the file that scripts of operators rely on.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestStatusSchema(t *testing.T) {
	golden(t, "status.json", statusOf(gather(noon, roomGoesDark())))
}

// Before the first decision every list is there, and empty.
func TestStatusSchemaBeforeDecision(t *testing.T) {
	h := &house{info: Info{Mesh: "acme", Started: noon.Add(-time.Second)}}
	golden(t, "status-starting.json", statusOf(gather(noon, h)))
}

func TestPathOf(t *testing.T) {
	ep := netip.MustParseAddrPort("192.0.2.1:51820")
	local := netip.MustParseAddrPort("127.86.0.1:40000")
	self, gw := node(1, "self", "a", discovery.RoleServer), node(2, "gw", "aws", discovery.RoleGateway)
	far := node(3, "far", "b", discovery.RoleServer)
	mesh := netip.MustParsePrefix("10.77.0.0/16")
	gwPeer := tunnel.Peer{Key: gw.WireGuard, AllowedIPs: []netip.Prefix{mesh}}
	farPeer := tunnel.Peer{Key: far.WireGuard, AllowedIPs: host(far.Addr)}
	for _, tt := range []struct {
		name    string
		of      discovery.Identity
		planned []tunnel.Peer
		device  []tunnel.PeerStatus
		want    string
	}{
		{"self", self, nil, nil, "self"},
		{"own peer", gw, []tunnel.Peer{gwPeer}, []tunnel.PeerStatus{{Key: gw.WireGuard, Endpoint: ep}}, "direct 192.0.2.1:51820"},
		{"by a stream", gw, []tunnel.Peer{gwPeer}, []tunnel.PeerStatus{{Key: gw.WireGuard, Endpoint: local}}, "stream (TLS to 192.0.2.1:443)"},
		{"by a stream that ended, device not told yet", far, []tunnel.Peer{farPeer}, []tunnel.PeerStatus{{Key: far.WireGuard, Endpoint: local}}, "stream (ended)"},
		{"own peer never heard", gw, []tunnel.Peer{gwPeer}, []tunnel.PeerStatus{{Key: gw.WireGuard}}, "none"},
		{"carried by a gateway", far, []tunnel.Peer{gwPeer}, nil, "via gw"},
		{"narrower prefix wins", far, []tunnel.Peer{farPeer, gwPeer}, []tunnel.PeerStatus{{Key: far.WireGuard, Endpoint: ep}}, "neighbour 192.0.2.1:51820"},
		{"moved to a gateway, device not told yet", far, []tunnel.Peer{gwPeer}, []tunnel.PeerStatus{{Key: far.WireGuard, Endpoint: ep}}, "via gw"},
		{"dropped, device not told yet", far, []tunnel.Peer{}, []tunnel.PeerStatus{{Key: far.WireGuard, Endpoint: ep}}, "none"},
		{"plan keeps what is there", far, nil, []tunnel.PeerStatus{{Key: far.WireGuard, Endpoint: ep}}, "neighbour 192.0.2.1:51820"},
		{"nobody carries it", far, nil, nil, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &house{
				snap: &decide.Snapshot{
					Self: self, Device: &tunnel.Status{Peers: tt.device}, Members: []discovery.Member{
						{Record: discovery.Record{Identity: self}}, {Record: discovery.Record{Identity: gw}}, {Record: discovery.Record{Identity: far}},
					},
					Streams: []tunnel.StreamStatus{{Key: gw.WireGuard, To: netip.MustParseAddrPort("192.0.2.1:443"), Local: local, Up: true}},
				},
				plan: &decide.Plan{Peers: tt.planned},
			}
			for _, m := range membersOf(gather(noon, h)) {
				if m.Name == tt.of.Name && m.Path != tt.want {
					t.Errorf("path = %q, want %q", m.Path, tt.want)
				}
			}
		})
	}
}

func TestJudge(t *testing.T) {
	long, just := noon.Add(-time.Hour), noon.Add(-time.Second)
	for _, tt := range []struct {
		name    string
		change  func(h *house)
		state   string
		carries bool
		first   string // code of the worst finding
	}{
		{"a site is dark, traffic passes elsewhere", func(*house) {}, StateDegraded, true, "site-dark"},
		{"all well", func(h *house) { h.plan.Health, h.outcomes = nil, nil }, StateReady, true, ""},
		{"a hand fails", func(h *house) { h.plan.Health = nil }, StateReady, true, "hand-failing"},
		{"a hand failed twice", func(h *house) {
			h.plan.Health, h.outcomes = nil, []reconcile.Outcome{{Hand: "elb", Fails: 2}}
		}, StateReady, true, ""},
		{"no plan, just started", func(h *house) { h.plan, h.info.Started = nil, just }, StateStarting, false, "hand-failing"},
		{"no plan after an hour", func(h *house) { h.plan, h.outcomes = nil, nil }, StateDegraded, false, "no-decision"},
		{"no device after an hour", func(h *house) { h.snap.Device = nil; h.plan.Health = nil }, StateDegraded, false, "no-device"},
		{"nobody answers, just started", func(h *house) {
			h.snap.Sight.Observations, h.snap.Device.Peers, h.info.Started = nil, nil, just
		}, StateStarting, false, "site-dark"},
		{"nobody answers any more", func(h *house) {
			h.plan.Health, h.info.Started = nil, long
			h.snap.Sight.Observations[0].Proof = noon.Add(-11 * time.Second)
		}, StateDegraded, false, "no-peer-answers"},
		{"nobody answers, and the plan says why", func(h *house) {
			h.plan.Health = []decide.Health{{Code: "no-gateway", Severity: decide.Broken}}
			h.snap.Sight.Observations[0].Proof, h.outcomes = long, nil
		}, StateDegraded, false, "no-gateway"},
		{"no pulse answered yet, a session lives", func(h *house) {
			h.plan.Health, h.outcomes, h.snap.Sight.Observations = nil, nil, nil
		}, StateReady, true, ""},
		{"alone in the mesh", func(h *house) {
			h.plan.Health, h.outcomes = nil, nil
			h.snap.Members, h.snap.Sight.Observations, h.snap.Device.Peers = h.snap.Members[:1], nil, nil
		}, StateReady, true, ""},
		{"the others left", func(h *house) {
			h.plan.Health, h.outcomes = nil, nil
			h.snap.Members, h.snap.Sight.Observations, h.snap.Device.Peers = h.snap.Members[:2], nil, nil
			h.snap.Members[1].State = discovery.StateLeft
		}, StateReady, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := roomGoesDark()
			tt.change(h)
			j := judge(gather(noon, h))
			if j.state != tt.state || (j.obstacle == nil) != tt.carries {
				t.Errorf("state %s, obstacle %+v; want %s, carries %t", j.state, j.obstacle, tt.state, tt.carries)
			}
			first := ""
			if len(j.found) > 0 {
				first = j.found[0].Code
			}
			if first != tt.first {
				t.Errorf("worst finding %q, want %q of %+v", first, tt.first, j.found)
			}
		})
	}
}

// A clock that went back, and facts that never were, print no nonsense.
func TestUnits(t *testing.T) {
	if s := age(noon, noon.Add(time.Hour)); s == nil || *s != 0 {
		t.Errorf("age of the future = %v, want 0", s)
	}
	if age(noon, time.Time{}) != nil || when(time.Time{}) != nil || known(0) != nil {
		t.Error("what never was is not null")
	}
	seoul := time.FixedZone("KST", 9*3600)
	if got := when(noon.In(seoul)); got.Location() != time.UTC || !got.Equal(noon) {
		t.Errorf("when = %v, want UTC", got)
	}
	if d := SecondsOf(1500 * time.Millisecond).Duration(); d != 1500*time.Millisecond {
		t.Errorf("there and back = %s", d)
	}
}

// The findings that only the desk knows must not change those of the plan.
func TestJudgeLeavesPlanAlone(t *testing.T) {
	h := roomGoesDark()
	h.plan.Health = append(make([]decide.Health, 0, 8), h.plan.Health...)
	before := append([]decide.Health{}, h.plan.Health...)
	judge(gather(noon, h))
	if diff := cmp.Diff(before, h.plan.Health); diff != "" {
		t.Errorf("plan changed (-before +after):\n%s", diff)
	}
}
