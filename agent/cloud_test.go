package agent_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/discovery"
	"drawbridge/discovery/cloudtest"
)

// farm is a load balancer with a rule over two pools: the machine room's, and
// one outside the mesh that is always healthy.
type farm struct {
	*cloudtest.Cloud
	seeded cloudtest.Seeded
	url    string
	empty  atomic.Bool // answers are 200 without a body
}

var (
	outsider = netip.MustParseAddrPort("10.0.1.10:8000")
	chat     = discovery.ServiceSpec{
		Name: "chat", Port: 8000, To: netip.MustParseAddrPort("127.0.0.1:8000"), Capacity: 1,
		Check: discovery.CheckSpec{Kind: discovery.CheckNone},
	}
)

func newFarm(t *testing.T) *farm {
	t.Helper()
	f := &farm{Cloud: cloudtest.New(cloudtest.Options{})}
	var err error
	if f.seeded, err = f.Seed(cloudtest.Layout{Groups: []cloudtest.GroupLayout{
		{Name: "idc", Weight: 70}, {Name: "aws", Weight: 30, Targets: []netip.AddrPort{outsider}},
	}}); err != nil {
		t.Fatal(err)
	}
	f.SetHealth(f.seeded.Groups["aws"], outsider.Addr(), outsider.Port(), "healthy", "")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.empty.Load() {
			return
		}
		f.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// settings make a gateway keep the farm's rule.
func (f *farm) settings(s *config.Settings) {
	s.AWS.Region, s.AWS.EndpointURL, s.AWS.Poll = cloudtest.DefaultRegion, f.url, time.Second
	s.Routes = []discovery.Route{{
		Name: "chat", Rule: f.seeded.Rule, Policy: discovery.PolicyStatic,
		Pools: []discovery.Pool{
			{Name: "room", Site: "idc", Service: "chat", TargetGroup: f.seeded.Groups["idc"], Weight: 70},
			{Name: "cloud", TargetGroup: f.seeded.Groups["aws"], Weight: 30},
		},
		HoldDown: 30 * time.Second, HoldMax: time.Minute, Ramp: []int{100}, RampStep: time.Second,
	}}
}

// writes are the attempts so far to change a weight, answered or not.
func (f *farm) writes() (n int) {
	for _, c := range f.Calls() {
		if c.Action == "ModifyRule" {
			n++
		}
	}
	return n
}

// finding is the finding of a code with the parts in its text; nil: none.
func finding(st api.Status, code string, parts ...string) *api.Finding {
next:
	for i := range st.Health {
		f := &st.Health[i]
		if f.Code != code {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(f.Text, p) {
				continue next
			}
		}
		return f
	}
	return nil
}

// told: AWS is reported unread, with cause and next step.
func told(parts ...string) func(api.Status) bool {
	return func(st api.Status) bool {
		f := finding(st, "aws-unread", parts...)
		return f != nil && f.Next != ""
	}
}

func weights(room, cloud int) func(api.Status) bool {
	return func(st api.Status) bool {
		return len(st.Routes) == 1 && len(st.Routes[0].Pools) == 2 &&
			st.Routes[0].Pools[0].Now == room && st.Routes[0].Pools[1].Now == cloud && finding(st, "aws-unread") == nil
	}
}

func and(all ...func(api.Status) bool) func(api.Status) bool {
	return func(st api.Status) bool {
		for _, ok := range all {
			if !ok(st) {
				return false
			}
		}
		return true
	}
}

// awsFaults are the ways in which AWS says nothing that can be used.
var awsFaults = []struct {
	name  string
	fault cloudtest.Fault
	empty bool
	text  string // of the finding
}{
	{name: "error", fault: cloudtest.Fault{Code: "InternalFailure", HTTPStatus: 500}, text: "InternalFailure"},
	{name: "throttled", fault: cloudtest.Fault{Code: "Throttling"}, text: "throttled"},
	{name: "denied", fault: cloudtest.Fault{Code: "AccessDenied", HTTPStatus: 403}, text: "AccessDenied"},
	{name: "html", fault: cloudtest.Fault{Garbage: "<!DOCTYPE html><html><body><p>Welcome<br></body></html>"}, text: "XML syntax error"},
	{name: "html 502", fault: cloudtest.Fault{Garbage: "<html>bad gateway</html>", HTTPStatus: 502}, text: "UnknownError"},
	{name: "cut", fault: cloudtest.Fault{Garbage: `<DescribeRulesResponse><DescribeRulesResult><Rules><member>`}, text: "did not answer"},
	{name: "empty body", empty: true, text: "the answer does not have rule"},
	{
		name:  "no such rule in the answer",
		fault: cloudtest.Fault{Garbage: `<DescribeRulesResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeRulesResult><Rules/></DescribeRulesResult></DescribeRulesResponse>`},
		text:  "does not have rule",
	},
	{name: "hang", fault: cloudtest.Fault{Drop: true}, text: "deadline exceeded"},
}

// TestCloudUnknownMovesNothing: whatever AWS answers that is no answer, the
// agent says so and keeps the weights; when AWS is back, so is the agent.
func TestCloudUnknownMovesNothing(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	gw, gpu, stopGateway := mesh(t)
	stopGateway()
	gw.startWith(t, f.settings)
	stop := gpu.start(t, chat)
	fine := and(verdictOf("idc", "up"), weights(70, 30))
	gw.until(t, "site up, weights read", fine)

	begin := func(i int) {
		f.empty.Store(awsFaults[i].empty)
		if !awsFaults[i].empty {
			fault := awsFaults[i].fault
			fault.Count = -1
			f.Inject(fault)
		}
	}
	end := func() { f.empty.Store(false); f.ClearFaults() }
	for i, tt := range awsFaults {
		t.Run(tt.name, func(t *testing.T) {
			begin(i)
			defer end()
			gw.until(t, "AWS reported unread: "+tt.text, told(tt.text))
			end()
			gw.until(t, "recovered", fine)
			if n := f.writes(); n != 0 {
				t.Errorf("%d changes of weights, want none", n)
			}
		})
	}

	// The same with the site really dark: the wish to shift waits for AWS.
	for i := range awsFaults {
		if awsFaults[i].name == "hang" {
			begin(i)
		}
	}
	gw.until(t, "AWS reported unread", told("deadline exceeded"))
	stop()
	gw.until(t, "site dark, AWS unread, hand failing", and(verdictOf("idc", "dark"), told(), func(st api.Status) bool {
		h := finding(st, "hand-failing")
		return h != nil && h.Next != ""
	}))
	if n := f.writes(); n != 0 {
		t.Fatalf("%d changes of weights while AWS was unread, want none", n)
	}
	// The write is done and its answer is lost: it must not be done twice.
	end()
	f.Inject(cloudtest.Fault{Action: "ModifyRule", Drop: true, AfterEffect: true})
	gw.until(t, "shifted", weights(0, 30))
	gw.until(t, "hands at rest", func(st api.Status) bool { return finding(st, "hand-failing") == nil })
	if n := f.writes(); n != 1 {
		t.Errorf("%d changes of weights, want 1", n)
	}
}

// TestCloudUnknownVerdictMovesNothing: a gateway that has just begun cannot
// tell a dark site from its own youth, and leaves the weights until it can.
func TestCloudUnknownVerdictMovesNothing(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	gw, gpu, stopGateway := mesh(t)
	stop := gpu.start(t, chat)
	gw.until(t, "site up", verdictOf("idc", "up"))
	stop()
	stopGateway()
	gw.startWith(t, func(s *config.Settings) {
		f.settings(s)
		s.Timing.StartGrace = 4 * time.Second
	})
	undecided := false
	gw.until(t, "site dark", func(st api.Status) bool {
		if verdictOf("idc", "dark")(st) {
			return true
		}
		undecided = undecided || verdictOf("idc", "undecided")(st)
		return false
	})
	if !undecided {
		t.Error("the verdict was never undecided")
	}
	gw.until(t, "shifted", weights(0, 30))
	if n := f.writes(); n != 1 {
		t.Errorf("%d changes of weights, want 1", n)
	}
}

// TestCloudOutOfReach: what is wrong before AWS says a word is told as well.
func TestCloudOutOfReach(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *config.Settings)
		text   []string
	}{
		{"no credentials", func(t *testing.T, _ *config.Settings) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		}, []string{"this host has no AWS credentials"}},
		{"other region", func(_ *testing.T, s *config.Settings) { s.AWS.Region = "eu-west-1" }, []string{"SignatureDoesNotMatch"}},
		{"wrong endpoint", func(_ *testing.T, s *config.Settings) { s.AWS.EndpointURL = "http://127.0.0.1:1" }, []string{"connection refused"}},
		{"no such name", func(_ *testing.T, s *config.Settings) { s.AWS.EndpointURL = "http://elb.invalid:1" }, []string{"elb.invalid"}},
		{"no such rule", func(_ *testing.T, s *config.Settings) { s.Routes[0].Rule += "0" }, []string{"RuleNotFound"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFarm(t)
			gw := newHost(t, "gw-a")
			if _, err := enroll.Init(enroll.InitOptions{StateDir: gw.dir, Mesh: "test", Site: "aws", Name: gw.name, ListenPort: gw.port}); err != nil {
				t.Fatal(err)
			}
			gw.startWith(t, func(s *config.Settings) { f.settings(s); tt.change(t, s) })
			var last *api.Finding
			gw.until(t, "AWS reported unread", func(st api.Status) bool {
				last = finding(st, "aws-unread", tt.text...)
				return last != nil
			})
			t.Logf("%s: %s\n  next: %s", last.Subject, last.Text, last.Next)
			if last.Next == "" || f.writes() != 0 {
				t.Errorf("%+v, %d changes of weights", last, f.writes())
			}
		})
	}
}
