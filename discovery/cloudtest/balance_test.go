package cloudtest

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// running is a cloud with targets in memory, its health checks running.
func running(t *testing.T, o Options, l Layout) (*Cloud, Seeded, *farm, http.Handler) {
	t.Helper()
	f := newFarm()
	for _, a := range []string{"10.0.1.10:8080", "172.20.0.1:8080", "172.20.0.2:8080"} {
		f.set(a, says(200, a))
	}
	o.Dial = f.dial
	c := New(o)
	s := seed(t, c, l)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return c, s, f, c.Balancer(s.LoadBalancer)
}

// hit sends requests and counts answers by pool and status.
func hit(h http.Handler, n int, cookies ...*http.Cookie) map[string]int {
	got := map[string]int{}
	for range n {
		r := httptest.NewRequest(http.MethodGet, "http://site/", nil)
		for _, ck := range cookies {
			r.AddCookie(ck)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		got[w.Header().Get(HeaderPool)+" "+http.StatusText(w.Code)]++
	}
	return got
}

func wantHits(t *testing.T, h http.Handler, n int, want map[string]int, cookies ...*http.Cookie) {
	t.Helper()
	if diff := cmp.Diff(want, hit(h, n, cookies...)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestBalancerCountsByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, h := running(t, Options{}, twoSides())
		time.Sleep(time.Second)
		wantHits(t, h, 100, map[string]int{"aws OK": 70, "idc OK": 30})
	})
}

func TestBalancerRandomChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, h := running(t, Options{RandomChoice: true}, twoSides())
		time.Sleep(time.Second)
		if got := hit(h, 1000)["aws OK"]; got < 600 || got > 800 { // 70 % within 7 deviations
			t.Errorf("aws got %d of 1000", got)
		}
	})
}

func TestZeroWeightAfterPropagation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, h := running(t, Options{Propagation: 5 * time.Second}, twoSides())
		time.Sleep(time.Second)
		if got := weigh(t, c, s.Rule, s.Groups["aws"], 100, s.Groups["idc"], 0); got.Code != "" {
			t.Fatal(got)
		}
		if got := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule).Body; !strings.Contains(got, "<Weight>0</Weight>") {
			t.Errorf("the API does not show the new configuration: %s", got)
		}
		time.Sleep(4900 * time.Millisecond)
		wantHits(t, h, 10, map[string]int{"aws OK": 7, "idc OK": 3})
		time.Sleep(100 * time.Millisecond)
		wantHits(t, h, 100, map[string]int{"aws OK": 100})
	})
}

func TestBalancerHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, f, h := running(t, Options{}, twoSides())
		state := func() string {
			b := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"], "Targets.member.1.Id", "172.20.0.1", "Targets.member.1.Port", "8080").Body
			_, b, _ = strings.Cut(b, "<State>")
			st, b, _ := strings.Cut(b, "</State>")
			_, b, _ = strings.Cut(b, "<Reason>")
			why, _, ok := strings.Cut(b, "</Reason>")
			if ok {
				st += " " + why
			}
			return st
		}
		want := func(s string) {
			t.Helper()
			if got := state(); got != s {
				t.Errorf("state %q, want %q", got, s)
			}
		}
		time.Sleep(time.Second)
		want("healthy") // a new target needs one pass
		f.set("172.20.0.1:8080", nil)
		time.Sleep(6 * time.Second) // first failure at 5 s + 2 s
		want("healthy")
		time.Sleep(6 * time.Second) // second failure at 12 s
		want("unhealthy Target.Timeout")
		targets := map[string]int{}
		for range 9 {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site/", nil))
			targets[w.Header().Get(HeaderTarget)]++
		}
		if targets["172.20.0.1:8080"] > 0 {
			t.Errorf("an unhealthy target got requests: %v", targets)
		}
		f.set("172.20.0.1:8080", says(503, "no"))
		time.Sleep(11 * time.Second)
		want("unhealthy Target.ResponseCodeMismatch")
		f.set("172.20.0.1:8080", says(200, "yes"))
		time.Sleep(11 * time.Second)
		want("healthy")
	})
}

func TestBalancerFailsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, f, h := running(t, Options{ConnectTimeout: 3 * time.Second}, twoSides())
		time.Sleep(time.Second)
		f.set("172.20.0.1:8080", nil)
		f.mu.Lock()
		delete(f.hosts, "172.20.0.2:8080")
		f.mu.Unlock()
		time.Sleep(20 * time.Second)
		if got := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body; strings.Contains(got, "<State>healthy") {
			t.Fatalf("still healthy: %s", got)
		}
		// The weight stays; the share is lost: time-outs and refusals.
		wantHits(t, h, 20, map[string]int{"aws OK": 14, "idc Gateway Timeout": 3, "idc Bad Gateway": 3})
	})
}

// Pitfall: an emptied group turns its share from half-dead to certain 503.
func TestPitfall01EmptyGroupAnswers503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, h := running(t, Options{}, twoSides())
		time.Sleep(time.Second)
		elb(t, c, "DeregisterTargets", "TargetGroupArn", s.Groups["idc"],
			"Targets.member.1.Id", "172.20.0.1", "Targets.member.1.Port", "8080",
			"Targets.member.2.Id", "172.20.0.2", "Targets.member.2.Port", "8080")
		wantHits(t, h, 10, map[string]int{"aws OK": 7, "idc Service Unavailable": 3})
		b := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body
		if strings.Count(b, "<State>draining</State><Reason>Target.DeregistrationInProgress") != 2 {
			t.Errorf("not draining: %s", b)
		}
		time.Sleep(31 * time.Second)
		b = elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body
		if strings.Contains(b, "<State>") || !strings.Contains(b, "<TargetHealthDescriptions></TargetHealthDescriptions>") {
			t.Errorf("after draining: %s", b)
		}
	})
}

// Pitfall: weight zero with stickiness left on.
func TestPitfall02CookiesBeatWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := twoSides()
		l.Groups[0].Weight, l.Groups[1].Weight, l.Stickiness = 0, 1, time.Hour
		c, s, _, h := running(t, Options{}, l)
		time.Sleep(time.Second)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site/", nil))
		cookies := w.Result().Cookies()
		sticky := forwardTo(s, "aws", "1", "idc", "0")
		sticky = append([]string{"RuleArn", s.Rule}, sticky...)
		elb(t, c, "ModifyRule", append(sticky, "Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.Enabled", "true",
			"Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds", "3600")...)
		wantHits(t, h, 10, map[string]int{"idc OK": 10}, cookies...)
		wantHits(t, h, 10, map[string]int{"aws OK": 10})
		elb(t, c, "ModifyRule", sticky...)
		wantHits(t, h, 10, map[string]int{"aws OK": 10}, cookies...)
	})
}

func TestDetachedGroupIsUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, _ := running(t, Options{}, twoSides())
		weigh(t, c, s.Rule, s.Groups["aws"], 1)
		b := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body
		if strings.Count(b, "<State>unused</State><Reason>Target.NotInUse</Reason>") != 2 {
			t.Errorf("%s", b)
		}
	})
}

func TestTimeScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, f, _ := running(t, Options{TimeScale: 0.1}, twoSides())
		time.Sleep(10 * time.Millisecond)
		f.set("172.20.0.1:8080", says(500, ""))
		time.Sleep(1100 * time.Millisecond) // two intervals of 0.5 s
		if got := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body; !strings.Contains(got, "<State>unhealthy") {
			t.Errorf("%s", got)
		}
	})
}

func TestBalancerForwardsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[string][]string{}
		l := twoSides()
		l.Groups = l.Groups[:1]
		_, s, f, h := running(t, Options{}, l)
		time.Sleep(time.Second)
		f.set("10.0.1.10:8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			maps.Copy(seen, map[string][]string{"xff": r.Header["X-Forwarded-For"], "host": {r.Host}})
			seen["n"] = append(seen["n"], "x")
			panic(http.ErrAbortHandler) // dies before it answers
		}))
		r := httptest.NewRequest(http.MethodGet, "http://site/path", nil)
		r.RemoteAddr = "192.0.2.7:1234"
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusBadGateway || len(seen["n"]) != 1 {
			t.Errorf("status %d after %d requests", w.Code, len(seen["n"]))
		}
		want := map[string][]string{"xff": {"198.51.100.1, 192.0.2.7"}, "host": {"site"}, "n": {"x"}}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		_ = s
	})
}

func TestBalancerByRuleAndListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, _ := running(t, Options{}, twoSides())
		time.Sleep(time.Second)
		wantHits(t, c.Balancer(s.Rule), 10, map[string]int{"aws OK": 7, "idc OK": 3})
		wantHits(t, c.Balancer(s.Listener), 10, map[string]int{"aws OK": 7, "idc OK": 3})
		wantHits(t, c.Balancer(s.DefaultRule), 10, map[string]int{"aws OK": 10})
		wantHits(t, c.Balancer("arn:none"), 1, map[string]int{" Service Unavailable": 1})
	})
}

func TestSetHealth(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	c.SetHealth(s.Groups["idc"], netip.MustParseAddr("172.20.0.2"), 8080, "unhealthy", "Target.Timeout")
	got := elb(t, c, "DescribeTargetHealth", "TargetGroupArn", s.Groups["idc"]).Body
	if !strings.Contains(got, "<State>unhealthy</State><Reason>Target.Timeout</Reason>") || !strings.Contains(got, "<State>initial</State>") {
		t.Errorf("%s", got)
	}
}

func TestWildcard(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "/a/b", true}, {"/a/*", "/a/b/c", true}, {"/a/*", "/b", false}, {"/?", "/x", true}, {"/[", "/[", true},
	} {
		if got := wildcard(tt.pattern, tt.s); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}
