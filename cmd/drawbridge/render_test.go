package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/api"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files of testdata")

// golden compares text with what a person sees, kept in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time { t := noon.Add(-d); return &t }
func after(d time.Duration) *time.Time  { return before(-d) }
func sec(s float64) *api.Seconds        { v := api.Seconds(s); return &v }

// roomIsDark is the status of a gateway shortly after a machine room fell
// silent, with one of everything that a line can show.
func roomIsDark() api.Status {
	return api.Status{
		SchemaVersion: 1, At: noon,
		Self: api.Self{
			ID: "a1", Name: "gw-a", Site: "aws", Role: "gateway", Addr: "10.77.0.1", Mesh: "acme", Version: "v1.2.3",
			State: "degraded", Backend: "tun", BackendReason: "permitted to create one", NotAfter: after(20*24*time.Hour + 3*time.Hour),
		},
		Members: []api.Member{
			{
				Addr: "10.77.0.1", Name: "gw-a", Site: "aws", Role: "gateway", State: "alive", Path: "self",
				Services: []api.Service{},
			},
			{
				Addr: "10.77.0.2", Name: "gw-b", Site: "aws", Role: "gateway", State: "alive", Path: "direct 10.0.2.10:51820",
				HandshakeAge: sec(90), ProofAge: sec(0.05), RTT: sec(0.0008), Rx: 5000, Tx: 600,
				MTU: 8941, MTUState: "measured",
			},
			{
				Addr: "10.77.16.9", Name: "gpu-1", Site: "idc-seoul", Role: "server", State: "suspect", Path: "direct 203.0.113.9:40001",
				HandshakeAge: sec(100), ProofAge: sec(4), RTT: sec(0.0081), Rx: 3 << 30, Tx: 1 << 20,
				MTU: 1328, MTUState: "measured", BlackHole: before(time.Minute),
				Services: []api.Service{{Name: "llm", Port: 8080, Check: "passing", Capacity: 4}, {Name: "ssh", Port: 22, Check: "failing", Capacity: 1}},
			},
			{
				Addr: "10.77.16.10", Name: "gpu-2", Site: "idc-seoul", Role: "server", State: "dead", Path: "via gw-b", Draining: true,
			},
		},
		Sites: []api.Site{{
			Site: "idc-seoul", Verdict: "dark", Reason: "all-dark", Since: before(3 * time.Second), Nodes: 2, LastSeen: before(4 * time.Second),
			Views: []api.View{{Observer: "gw-a", State: "dark"}, {Observer: "gw-b", State: "dark"}},
		}, {
			Site: "idc-tokyo", Verdict: "undecided", Reason: "starting", Nodes: 1, Views: []api.View{},
		}},
		Routes: []api.Route{{
			Route: "chat", State: "dark", Pools: []api.Pool{
				{Pool: "gpu", Site: "idc-seoul", Now: 100, Goal: 0, Normal: 100, Healthy: 1, Registered: 2, Reason: "site-dark"},
				{Pool: "cloud", Now: 0, Goal: 100, Normal: 0, Healthy: -1, Registered: -1, Reason: "normal"},
			},
		}, {
			Route: "embed", State: "ramp", Until: after(12 * time.Second), Pools: []api.Pool{
				{Pool: "gpu", Site: "idc-tokyo", Now: -1, Goal: -1, Normal: 999, Healthy: 0, Registered: 0, Reason: "undecided"},
			},
		}},
		Leader: api.Leader{ID: "a1", Name: "gw-a", Self: true, Reason: "normal"},
		Health: []api.Finding{
			{Code: "site-dark", Severity: "error", Subject: "idc-seoul", Text: "no node answers any gateway", Next: "look at the uplink of idc-seoul"},
			{Code: "hand-failing", Severity: "warning", Subject: "elb", Text: "3 attempts in a row failed:\nthrottled by AWS"},
		},
	}
}

func TestRenderStatus(t *testing.T) {
	golden(t, "status.txt", renderStatus(roomIsDark(), painter{}))
}

func TestRenderStatusStarting(t *testing.T) {
	st := api.Status{
		At: noon, Self: api.Self{Mesh: "acme", State: "starting"},
		Leader: api.Leader{Reason: "starting"},
	}
	golden(t, "status-starting.txt", renderStatus(st, painter{}))
}

// Colour adds escapes and moves nothing.
func TestRenderStatusColour(t *testing.T) {
	escape := regexp.MustCompile("\x1b\\[[0-9]+m")
	colour := renderStatus(roomIsDark(), painter{colour: true})
	for _, want := range []string{red + "dark" + plain, green + "alive" + plain, yellow + "undecided" + plain} {
		if !strings.Contains(colour, want) {
			t.Errorf("%q is not in the coloured status", want)
		}
	}
	if diff := cmp.Diff(renderStatus(roomIsDark(), painter{}), escape.ReplaceAllString(colour, "")); diff != "" {
		t.Errorf("plain against coloured without its escapes (-want +got):\n%s", diff)
	}
}

// What other hosts wrote of themselves does not reach the terminal as orders.
func TestRenderDefusesEscapes(t *testing.T) {
	const evil = "x\x1b[2J\x07\r\u009b31m\u202e"
	st := roomIsDark()
	st.Self.Name, st.Self.Version, st.Leader = evil, evil, api.Leader{ID: "b2", Name: evil}
	st.Members[1].Name, st.Members[1].State, st.Members[1].Services = evil, evil, []api.Service{{Name: evil, Check: evil}}
	st.Sites[0].Verdict, st.Sites[0].Views[0].Observer = evil, evil
	st.Health[0].Severity, st.Health[0].Text, st.Health[0].Subject = evil, evil, evil
	text := renderStatus(st, painter{}) + renderWhy(api.Why{Lines: []string{"  " + evil}}) +
		renderPlan(api.Plan{Calls: []api.Call{{Detail: evil}}}) + renderCheck("ready", api.Check{State: evil, Reasons: []string{evil}})
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%q is printed in:\n%s", r, text)
		}
	}
}

func TestRenderWhyKeepsIndentation(t *testing.T) {
	got := renderWhy(api.Why{Lines: []string{"route chat", "  gpu:   goal 0", "", "    site-dark"}})
	if want := "route chat\n  gpu:   goal 0\n\n    site-dark\n"; got != want {
		t.Errorf("why %q, want %q", got, want)
	}
}

func TestPainterFor(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if painterFor(file).colour || painterFor(&strings.Builder{}).colour {
		t.Error("colour in a file")
	}
	if !painterFor(null).colour {
		t.Error("no colour on a device")
	}
	t.Setenv("NO_COLOR", "1")
	if painterFor(null).colour {
		t.Error("NO_COLOR is ignored")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if painterFor(null).colour {
		t.Error("colour on a dumb terminal")
	}
}

func TestRenderPlan(t *testing.T) {
	calls := []api.Call{
		{Service: "elasticloadbalancing", Action: "ModifyRule", Object: "arn:rule/1", Detail: "gpu 100 to 0, cloud 0 to 100", Reason: "site-dark"},
		{Service: "ec2", Action: "ReplaceRoute", Object: "rtb-1", Detail: "10.77.0.0/16 to eni-2", Reason: "gateway-dead"},
	}
	var b strings.Builder
	for _, p := range []api.Plan{
		{},
		{Calls: calls, Leader: api.Leader{ID: "a1", Name: "gw-a", Self: true}},
		{Calls: calls[:1], Leader: api.Leader{ID: "b2", Name: "gw-b"}},
		{Calls: calls[:1], Leader: api.Leader{Reason: "unsettled"}},
	} {
		b.WriteString(renderPlan(p) + "---\n")
	}
	golden(t, "plan.txt", b.String())
}

func TestRenderCheck(t *testing.T) {
	golden(t, "check.txt", renderCheck("ready", api.Check{OK: true})+
		renderCheck("ready", api.Check{State: "starting", Reasons: []string{"no-device: the tunnel device has not come up"}}))
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00ms", 800 * time.Microsecond: "0.80ms", 8100 * time.Microsecond: "8.1ms",
		120 * time.Millisecond: "0.1s", 9940 * time.Millisecond: "9.9s", 59900 * time.Millisecond: "59s",
		61 * time.Second: "1m1s", 3 * time.Hour: "3h0m", 47*time.Hour + 59*time.Minute: "47h59m",
		49 * time.Hour: "2d1h", -time.Second: "-1.0s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 1023: "1023B", 1024: "1.0KiB", 1536: "1.5KiB", 3 << 30: "3.0GiB", 1 << 63: "8192.0PiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
