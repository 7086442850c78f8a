package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"drawbridge/tunnel"
)

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestAskAndAnswer(t *testing.T) {
	at := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- ServeAnswers(ctx, at) }()
	for _, fresh := range []bool{false, true} {
		var out bytes.Buffer
		if err := Ask(t.Context(), at, 2, 50*time.Millisecond, fresh, &out); err != nil {
			t.Fatal(err)
		}
		var a Asked
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		if a.Answers == 0 || a.Failed > 0 || a.P50 <= 0 || a.P99 < a.P50 || a.Took != 50*time.Millisecond {
			t.Errorf("fresh %t: %+v", fresh, a)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := Ask(t.Context(), at, 1, 30*time.Millisecond, false, &out); err != nil {
		t.Fatal(err)
	}
	var a Asked
	if err := json.Unmarshal(out.Bytes(), &a); err != nil || a.Answers > 0 || a.Failed == 0 {
		t.Errorf("nobody answers: %+v, %v", a, err)
	}
}

func TestPourIntoTrack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serveTrack(ctx, l, c) }()
	var out bytes.Buffer
	to := netip.MustParseAddrPort(c.LocalAddr().String())
	if err := Pour(t.Context(), to, 36, 30*time.Millisecond, 5, 10*time.Millisecond, &out); err != nil {
		t.Fatal(err)
	}
	var p Poured
	if err := json.Unmarshal(out.Bytes(), &p); err != nil || p.Packets < 5 || p.Packets%5 != 0 || p.Took < 30*time.Millisecond {
		t.Fatalf("poured %+v, %v", p, err)
	}
	var got Sunk
	for end := time.Now().Add(5 * time.Second); got.Packets < p.Packets && time.Now().Before(end); {
		out.Reset()
		if err := Fetch(t.Context(), "http://"+l.Addr().String()+"/sunk", &out); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
	}
	if want := (Sunk{p.Packets, 36 * p.Packets}); got != want {
		t.Errorf("sunk %+v, want %+v", got, want)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestEcho(t *testing.T) {
	b := echoRequest(258)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if sum = sum>>16 + sum&0xffff; sum+sum>>16 != 0xffff {
		t.Errorf("checksum of the request: %#x", sum)
	}
	if _, ok := echoReply(b); ok {
		t.Error("took a request for a reply")
	}
	b[0] = 0
	if seq, ok := echoReply(b); !ok || seq != 258 {
		t.Errorf("reply %d, %t", seq, ok)
	}
	b[5]++
	if _, ok := echoReply(b); ok {
		t.Error("took the reply to another process")
	}
	if _, ok := echoReply(nil); ok {
		t.Error("took nothing for a reply")
	}
}

func TestReportScores(t *testing.T) {
	r := &Report{}
	ts := []tunnelKind{{name: bareGo}, {name: oursTUN}, {name: "failed"}}
	ms := func(n ...int) (d []time.Duration) {
		for _, n := range n {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	reportScores(r, ts, map[string]score{
		bareGo:  {stream: draw{2, 6}, packets: 40, cpu: 20, idle: ms(1, 2, 3), loaded: ms(30, 10, 20), lost: []float64{0, 9}, rss: []int64{10e6, 300e6}},
		oursTUN: {stream: draw{3, 3}, packets: 120, cpu: 5, idle: ms(1, 2, 3), loaded: ms(1, 2, 9), lost: []float64{0, 3}, rss: []int64{11e6, 30e6}},
	})
	got := map[string]float64{}
	for _, f := range r.Figures {
		if strings.Contains(f.Name, bareGo) {
			got[f.Name] = f.Median()
		}
	}
	want := map[string]float64{
		bareGo + ": one stream": 2, bareGo + ": CPU a GB": 6, bareGo + ": 64-byte packets": 40, bareGo + ": CPU a packet": 20,
		bareGo + ": ping p50 idle": 2, bareGo + ": ping p50 under a stream": 20, bareGo + ": ping p99 under a stream": 20,
		bareGo + ": lost of bursts of 100": 0, bareGo + ": lost of bursts of 1000": 9,
		bareGo + ": memory before load": 10, bareGo + ": memory after load": 300,
		oursTUN + " to " + bareGo + ": one stream": 1.5, oursTUN + " to " + bareGo + ": CPU a GB": 0.5,
		oursTUN + " to " + bareGo + ": 64-byte packets": 3, oursTUN + " to " + bareGo + ": ping p50 under a stream": 0.1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestReportForward(t *testing.T) {
	r := &Report{}
	asked := func(n int, p99 time.Duration) Asked {
		return Asked{Answers: n, Took: time.Second, P50: time.Millisecond, P99: p99}
	}
	reportForward(r, "spot", []string{byRoute, byHaproxy},
		map[string]Asked{byRoute: asked(300, 2*time.Millisecond), byHaproxy: asked(200, 4*time.Millisecond)},
		map[string]Asked{byRoute: asked(30, 0), byHaproxy: asked(10, 0)})
	var got []float64
	for _, f := range r.Figures[len(r.Figures)-3:] {
		got = append(got, f.Median())
	}
	if d := cmp.Diff([]float64{1.5, 0.5, 3}, got); d != "" {
		t.Errorf("ratios (-want +got)\n%s", d)
	}
}

func TestEndPlan(t *testing.T) {
	gw, server, err := chainPlans(true)
	if err != nil {
		t.Fatal(err)
	}
	c, err := gw.config()
	if err != nil {
		t.Fatal(err)
	}
	d, err := server.config()
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.PrivateKey.Public()
	if err != nil || c.Peers[0].Key != key {
		t.Errorf("the gateway waits for another server: %v", err)
	}
	if c.Peers[0].Endpoint.IsValid() || d.Peers[0].Endpoint.String() != "192.0.2.1:51999" || d.Peers[0].Keepalive == 0 {
		t.Errorf("the server dials, not the gateway: %+v, %+v", c.Peers[0], d.Peers[0])
	}
	want := tunnel.Filter{
		Interface: "x", Mesh: netip.MustParsePrefix("10.99.0.0/24"), Self: netip.MustParseAddr("10.99.0.1"), Forward: true, MTU: overlayMTU,
	}
	if got := gw.filter("x"); !got.Equal(&want) {
		t.Errorf("filter %+v, want %+v", got, want)
	}
}

func TestNebula(t *testing.T) {
	for v, want := range map[string]bool{"1.11.0": true, "1.12.0": false, "2.0.0": false, "0.9": true, "built by hand": false} {
		if got := olderNebula(v); got != want {
			t.Errorf("%s is older: %t", v, got)
		}
	}
	var c struct {
		Lighthouse struct {
			Am    bool     `yaml:"am_lighthouse"`
			Hosts []string `yaml:"hosts"`
		} `yaml:"lighthouse"`
		Tun struct {
			Use bool `yaml:"use_offloads"`
			MTU int  `yaml:"mtu"`
		} `yaml:"tun"`
	}
	if err := yaml.Unmarshal([]byte(nebulaConfig("/d", cableRight, true)), &c); err != nil {
		t.Fatal(err)
	}
	if c.Lighthouse.Am || len(c.Lighthouse.Hosts) != 1 || !c.Tun.Use || c.Tun.MTU != overlayMTU {
		t.Errorf("the right end: %+v", c)
	}
	if err := yaml.Unmarshal([]byte(nebulaConfig("/d", cableLeft, false)), &c); err != nil || !c.Lighthouse.Am || c.Tun.Use {
		t.Errorf("the left end: %+v, %v", c, err)
	}
}

func TestOthersAreOptional(t *testing.T) {
	l := &Lab{opts: Options{Binary: "/nonexistent/drawbridge"}}
	t.Setenv("DRAWBRIDGE_PEERS", "")
	found, absent := l.others()
	if len(found) > 0 || len(absent) != 2 {
		t.Errorf("found %v, absent %q", found, absent)
	}
	ts, _ := l.tunnels(Measure{Only: []string{"netstack"}})
	if len(ts) != 1 || ts[0].name != oursNetstack {
		t.Errorf("only netstack: %v", ts)
	}
}

func TestParseSwitches(t *testing.T) {
	n, err := parseSwitches("Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t4\n")
	if err != nil || n != 17 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseSwitches("nonvoluntary_ctxt_switches:\t4\n"); err == nil {
		t.Error("read what is not there")
	}
}

func TestSignalLine(t *testing.T) {
	l := newSignalLine()
	_, _ = l.Write([]byte("{\"a\""))
	_, _ = l.Write([]byte(":1}\nmore\n"))
	<-l.seen
	_, _ = l.Write([]byte("and more\n"))
	if got := string(l.line()); got != `{"a":1}` {
		t.Errorf("line %q", got)
	}
}
