package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/api"
)

func TestMeter(t *testing.T) {
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	m := meter{from: began.Add(500 * time.Millisecond), count: time.Second}
	for _, step := range []struct {
		at     time.Duration
		n      int
		enough bool
	}{
		{100 * time.Millisecond, 1000, false}, // warm-up
		{600 * time.Millisecond, 100, false},  // crosses its end
		{1100 * time.Millisecond, 20, false},
		{1700 * time.Millisecond, 3, true},
	} {
		if got := m.add(began.Add(step.at), step.n); got != step.enough {
			t.Errorf("after %s: enough %t", step.at, got)
		}
	}
	if d := cmp.Diff(Stream{Bytes: 23, Took: 1100 * time.Millisecond, Total: 1123}, m.s); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestDrawOf(t *testing.T) {
	got := drawOf(Stream{Bytes: 750e6, Took: 3 * time.Second, Total: 1e9}, 5*time.Second)
	if want := (draw{gigabits: 2, cpuPerGB: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := drawOf(Stream{}, time.Second); got != (draw{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// TestDrawStreamFromApp runs the real server and the real client.
func TestDrawStreamFromApp(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(serveBulk))
	t.Cleanup(srv.Close)
	var out bytes.Buffer
	if err := DrawStream(t.Context(), srv.URL+"/bulk", 10*time.Millisecond, 50*time.Millisecond, &out); err != nil {
		t.Fatal(err)
	}
	var st Stream
	if err := json.Unmarshal(out.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if st.Took < 50*time.Millisecond || st.Bytes <= 0 || st.Total <= st.Bytes {
		t.Errorf("got %+v", st)
	}
}

func TestDrawStreamRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a short stream", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "ended after 5 bytes"},
		{"another answer", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "HTTP 404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.answer)
			t.Cleanup(srv.Close)
			err := DrawStream(t.Context(), srv.URL, 0, time.Minute, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestBareUAPI(t *testing.T) {
	p := barePlan{Port: 51999, Private: "aa", Peer: "bb", PeerAddr: netip.MustParseAddr("10.99.0.2")}
	if d := cmp.Diff("private_key=aa\nlisten_port=51999\npublic_key=bb\nallowed_ip=10.99.0.2/32\n", p.uapi()); d != "" {
		t.Errorf("who waits (-want +got)\n%s", d)
	}
	p.Endpoint = netip.MustParseAddrPort("203.0.113.11:51999")
	if !strings.HasSuffix(p.uapi(), "endpoint=203.0.113.11:51999\npersistent_keepalive_interval=25\n") {
		t.Errorf("who dials: %s", p.uapi())
	}
}

func TestBarePlansMatch(t *testing.T) {
	gw, server, err := barePlans(1420, netip.MustParseAddr("203.0.113.11"))
	if err != nil {
		t.Fatal(err)
	}
	if gw.Endpoint.IsValid() || server.Endpoint.String() != "203.0.113.11:51999" {
		t.Errorf("the server dials out, not the gateway: %s, %s", gw.Endpoint, server.Endpoint)
	}
	if gw.PeerAddr != server.Addr.Addr() || server.PeerAddr != gw.Addr.Addr() || gw.Addr == server.Addr {
		t.Errorf("addresses %s and %s, peers %s and %s", gw.Addr, server.Addr, gw.PeerAddr, server.PeerAddr)
	}
	if gw.Private == server.Private || gw.Peer == server.Peer || len(gw.Private) != 64 || len(gw.Peer) != 64 {
		t.Error("keys are not two pairs of 32 bytes")
	}
	if gw.MTU != 1420 || server.MTU != 1420 {
		t.Errorf("MTU %d and %d", gw.MTU, server.MTU)
	}
}

func TestCarriers(t *testing.T) {
	names := func(cs []carrier) (out []string) {
		for _, c := range cs {
			out = append(out, c.name)
		}
		return out
	}
	want := []string{"agents, MTU 1280", "bare wireguard-go, MTU 1280", "bare wireguard-go, MTU 1420"}
	if d := cmp.Diff(want, names(carriersAt(1280))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if d := cmp.Diff([]string{want[1], want[2], want[0]}, names(rotate(carriersAt(1280), 4))); d != "" {
		t.Errorf("run 5 (-want +got)\n%s", d)
	}
	if d := cmp.Diff([]string{"agents, MTU 1420", want[2]}, names(carriersAt(1420))); d != "" {
		t.Errorf("the same MTU twice (-want +got)\n%s", d)
	}
}

func TestReportDraws(t *testing.T) {
	cs := carriersAt(1280)
	r := &Report{}
	for _, d := range []map[carrier]draw{
		{cs[0]: {3, 4}, cs[1]: {2, 5}, cs[2]: {4, 3}},
		{cs[0]: {1, 8}, cs[1]: {1, 6}},  // the third failed
		{cs[1]: {9, 9}, cs[2]: {10, 9}}, // the agents failed: no ratio
	} {
		reportDraws(r, cs, d)
	}
	want := []Figure{
		{Name: "agents, MTU 1280", Unit: "Gbit/s", Values: []float64{3, 1}, Higher: true},
		{Name: "bare wireguard-go, MTU 1280", Unit: "Gbit/s", Values: []float64{2, 1, 9}, Higher: true},
		{Name: "bare wireguard-go, MTU 1420", Unit: "Gbit/s", Values: []float64{4, 10}, Higher: true},
		{Name: "agents to bare wireguard-go, MTU 1280", Unit: "ratio", Values: []float64{1.5, 1}, Higher: true},
		{Name: "agents to bare wireguard-go, MTU 1420", Unit: "ratio", Values: []float64{0.75}, Higher: true},
		{Name: "CPU of both ends, agents, MTU 1280", Unit: "s a GB", Values: []float64{4, 8}},
		{Name: "CPU of both ends, bare wireguard-go, MTU 1280", Unit: "s a GB", Values: []float64{5, 6, 9}},
		{Name: "CPU of both ends, bare wireguard-go, MTU 1420", Unit: "s a GB", Values: []float64{3, 9}},
	}
	if d := cmp.Diff(want, r.Figures); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := r.Figures[0].Worst(); got != 1 {
		t.Errorf("worst throughput %v, want the smallest", got)
	}
	if got := r.Figures[5].Worst(); got != 8 {
		t.Errorf("worst CPU %v, want the greatest", got)
	}
}

func TestPairRead(t *testing.T) {
	status := func(m api.Member) api.Status {
		m.MTU = 1280
		return api.Status{Self: api.Self{MTU: 8941}, Members: []api.Member{{Name: "gw-a"}, m}}
	}
	for _, tt := range []struct {
		name    string
		member  api.Member
		wantErr string
	}{
		{name: "direct", member: api.Member{Name: "gpu-1", Addr: "10.86.0.9", Path: "direct 198.51.100.2:51820", MTUState: "measured"}},
		{name: "not measured", member: api.Member{Name: "gpu-1", Addr: "10.86.0.9", Path: "direct x", MTUState: "searching"}, wantErr: "1280 bytes, searching"},
		{name: "relayed", member: api.Member{Name: "gpu-1", Addr: "10.86.0.9", Path: "via gw-b"}, wantErr: "want a direct one"},
		{name: "unknown", member: api.Member{Name: "gpu-2"}, wantErr: "does not know gpu-1"},
		{name: "no address", member: api.Member{Name: "gpu-1", Path: "direct x"}, wantErr: "overlay address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pair{gateway: Node{Name: "gw-a"}, server: Node{Name: "gpu-1"}}
			err := p.read(status(tt.member))
			switch {
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Errorf("error %v, want %q", err, tt.wantErr)
			case tt.wantErr == "" && (err != nil || p.overlay.String() != "10.86.0.9" || p.mtu != 1280):
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestThroughputSkippedOnLoopback(t *testing.T) {
	r, err := RunMeasure(t.Context(), "throughput", Options{Mode: Loopback}, Measure{})
	if !errors.Is(err, ErrNeedsNamespaces) {
		t.Fatalf("error %v, want %v", err, ErrNeedsNamespaces)
	}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "throughput, loopback: skipped: needs the ground of namespaces: on loopback a relay") {
		t.Errorf("report %q", b.String())
	}
}
