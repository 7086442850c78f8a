package weight

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// found is a route of a site and AWS, read just now, with healthy targets.
func found(now time.Time, light Light, idc, aws int) Route {
	return Route{
		Read: now, Writer: true, Stickiness: time.Hour,
		Pools: []Pool{
			{Name: "idc", Light: light, Normal: 70, Now: idc, Healthy: 2, Registered: 2, Read: now},
			{Name: "aws", Outside: true, Light: Up, Normal: 30, Now: aws, Healthy: 2, Registered: 2, Read: now},
		},
	}
}

func say(a Answer) string {
	var b []string
	for _, g := range a.Goals {
		b = append(b, fmt.Sprintf("%d %s", g.Weight, g.Reason))
	}
	s := string(a.State) + ": " + strings.Join(b, ", ")
	if a.Stickiness != nil {
		s += fmt.Sprintf(", sticky %s", *a.Stickiness)
	}
	return s
}

// TestFirstLook: what a node without memory makes of what it reads.
func TestFirstLook(t *testing.T) {
	for _, c := range []struct {
		name   string
		light  Light
		idc    int
		change func(*Route)
		want   string
	}{
		{"normal", Up, 70, nil, "normal: 70 normal, 30 normal, sticky 1h0m0s"},
		{"normal, no cookies configured", Up, 70, func(r *Route) { r.Stickiness = 0 }, "normal: 70 normal, 30 normal"},
		{"shifted, site up", Up, 0, nil, "waiting: 0 hold-down, 30 normal, sticky 0s"},
		{"on a step", Up, 17, nil, "ramp: 17 ramp, 30 normal"},
		{"between steps: never down", Up, 20, nil, "ramp: 35 ramp, 30 normal"},
		{"more than normal", Up, 90, nil, "normal: 70 normal, 30 normal, sticky 1h0m0s"},
		{"not in the rule yet", Up, -1, nil, "waiting: 0 hold-down, 30 normal, sticky 0s"},
		{"dark", Dark, 70, nil, "dark: 0 site-dark, 30 normal, sticky 0s"},
		{"dark and shifted", Dark, 0, nil, "dark: 0 site-dark, 30 normal, sticky 0s"},
		{"undecided", Unknown, 70, nil, "keep: -1 undecided, -1 undecided"},
		{"rule never read", Dark, -1, func(r *Route) { r.Read = time.Time{} }, "keep: -1 aws-unread, -1 aws-unread"},
		{"no healthy alternative", Dark, 70, func(r *Route) { r.Pools[1].Healthy = 0 }, "keep: -1 no-alternative, -1 no-alternative"},
		{"shifted already, alternative unhealthy", Dark, 0, func(r *Route) { r.Pools[1].Healthy = 0 }, "dark: 0 site-dark, 30 normal, sticky 0s"},
		{"alternative never read", Dark, 70, func(r *Route) { r.Pools[1].Healthy, r.Pools[1].Read = -1, time.Time{} }, "keep: -1 aws-unread, -1 aws-unread"},
		{"alternative read 59 s ago", Dark, 70, func(r *Route) { r.Pools[1].Read = start.Add(-59 * time.Second) }, "dark: 0 site-dark, 30 normal, sticky 0s"},
		{"alternative read 61 s ago", Dark, 70, func(r *Route) { r.Pools[1].Read = start.Add(-61 * time.Second) }, "keep: -1 aws-unread, -1 aws-unread"},
		{"no other pool", Dark, 70, func(r *Route) { r.Pools = r.Pools[:1] }, "keep: -1 all-zero, -1 all-zero"},
		{"only an unhealthy standby", Dark, 70, func(r *Route) { r.Pools[1].Normal, r.Pools[1].Healthy, r.Pools[1].Now = 0, 0, 0 }, "keep: -1 no-alternative, -1 no-alternative"},
		{"a healthy standby", Dark, 70, func(r *Route) { r.Pools[1].Normal, r.Pools[1].Now = 0, 0 }, "dark: 0 site-dark, 70 standby, sticky 0s"},
		{"outside pools only", Unknown, 0, func(r *Route) { r.Pools = r.Pools[1:] }, "normal: 30 normal, sticky 1h0m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := found(start, c.light, c.idc, 30)
			if c.change != nil {
				c.change(&r)
			}
			_, a := Next(start, Memory{}, r)
			got := say(a)
			if strings.HasPrefix(c.want, "keep") {
				got = got[:min(len(got), len(c.want))]
				if len(r.Pools) == 1 {
					c.want = strings.Split(c.want, ",")[0]
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// walk plays a route second by second; the load balancer obeys at once.
type walk struct {
	now time.Time
	m   Memory
	idc int
	a   Answer
}

func (w *walk) pass(light Light, d time.Duration, change func(*Route)) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Second)
		r := found(w.now, light, w.idc, 30)
		if change != nil {
			change(&r)
		}
		w.m, w.a = Next(w.now, w.m, r)
		if g := w.a.Goals[0].Weight; g >= 0 && r.Writer {
			w.idc = g
		}
	}
}

func TestHoldDownDoublesAndIsForgotten(t *testing.T) {
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, nil)
	hold := func() time.Duration { return w.m.Pools[0].Hold }
	for _, want := range []time.Duration{30, 60, 120, 240, 480, 960, 1800, 1800} {
		w.pass(Dark, 2*time.Second, nil)
		if got := hold(); got != want*time.Second {
			t.Fatalf("hold %s, want %s", got, want*time.Second)
		}
		w.pass(Up, 2*time.Second, nil)
	}
	w.pass(Up, 31*time.Minute, nil)
	if got := say(w.a); got != "normal: 70 normal, 30 normal, sticky 1h0m0s" {
		t.Fatal(got)
	}
	w.pass(Dark, 2*time.Second, nil)
	if got := hold(); got != 30*time.Minute {
		t.Fatalf("29 minutes of calm: hold %s, want 30m", got)
	}
	w.pass(Up, 75*time.Minute, nil)
	w.pass(Dark, 2*time.Second, nil)
	if got := hold(); got != 30*time.Second {
		t.Fatalf("long calm: hold %s, want 30s", got)
	}
}

func TestReturnWaitsForReadings(t *testing.T) {
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, nil)
	w.pass(Dark, 5*time.Second, nil)
	w.pass(Up, 40*time.Second, func(r *Route) { r.Pools[0].Healthy = 0 })
	if got := say(w.a); got != "waiting: 0 targets-not-yet, 30 normal, sticky 0s" {
		t.Fatal(got)
	}
	w.pass(Up, time.Second, func(r *Route) { r.Pools[0].Read = w.now.Add(-31 * time.Second) })
	if got := say(w.a); got != "waiting: 0 aws-unread, 30 normal, sticky 0s" {
		t.Fatal(got)
	}
	w.pass(Up, time.Second, nil)
	if got := say(w.a); got != "ramp: 7 ramp, 30 normal" {
		t.Fatal(got)
	}
	// The step is not written: no further, however long it takes.
	w.pass(Up, time.Minute, func(r *Route) { r.Pools[0].Now = 0 })
	if got := say(w.a); got != "ramp: 7 ramp, 30 normal" {
		t.Fatal(got)
	}
}

func TestRateLimitDelaysReturnsOnly(t *testing.T) {
	quick := func(r *Route) { r.HoldDown, r.HoldMax, r.RampStep = time.Second, time.Second, time.Second }
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, quick)
	for range 3 {
		w.pass(Dark, time.Second, quick)
		w.pass(Up, 3*time.Second, quick)
	}
	limited := false
	for range 10 {
		w.pass(Up, time.Second, quick)
		limited = limited || strings.Contains(say(w.a), "rate-limit")
	}
	if !limited || w.idc == 70 {
		t.Fatalf("not limited: %s", say(w.a))
	}
	w.pass(Dark, time.Second, quick)
	if w.idc != 0 {
		t.Fatalf("a shift was delayed: %s", say(w.a))
	}
	w.pass(Up, 2*time.Minute, quick)
	if w.idc != 70 {
		t.Fatalf("still limited: %s", say(w.a))
	}
}

func TestForeignRaiseIsNotFought(t *testing.T) {
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, nil)
	w.pass(Dark, 5*time.Second, nil)
	w.idc = 40 // somebody
	w.pass(Dark, 10*time.Second, nil)
	if got := say(w.a); got != "dark: -1 foreign-change, 30 normal" || w.idc != 40 {
		t.Fatalf("%s, %d", got, w.idc)
	}
	w.pass(Up, 29*time.Second, nil)
	if w.idc != 40 {
		t.Fatalf("touched while waiting: %s", say(w.a))
	}
	w.pass(Up, 3*time.Minute, nil)
	if w.idc != 70 {
		t.Fatalf("never back: %s", say(w.a))
	}
}

// TestFollower: a node that does not write follows what the writer has done.
func TestFollower(t *testing.T) {
	follow := func(r *Route) { r.Writer = false }
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, follow)
	for _, c := range []struct {
		idc  int
		want Phase
	}{{0, Waiting}, {7, Ramping}, {35, Ramping}, {70, Normal}, {17, Ramping}, {0, Waiting}, {70, Normal}} {
		w.idc = c.idc
		w.pass(Up, 3*time.Second, follow)
		if got := w.m.Pools[0].Phase; got != c.want {
			t.Errorf("the writer has %d: phase %s, want %s", c.idc, got, c.want)
		}
	}
}

func TestRestartedKeepsOnlyThePast(t *testing.T) {
	w := &walk{now: start, idc: 70}
	w.pass(Up, time.Second, nil)
	w.pass(Dark, 5*time.Second, nil)
	m := w.m.Restarted()
	if p := m.Pools[0]; p.Phase != "" || p.Hold != 30*time.Second || p.Shifted || p.Zero {
		t.Fatalf("kept %+v", p)
	}
	w.m = m
	w.pass(Dark, time.Second, nil)
	if got := w.m.Pools[0].Hold; got != time.Minute {
		t.Fatalf("hold %s, want 1m", got)
	}
}

func TestPart(t *testing.T) {
	for _, c := range []struct{ normal, percent, want int }{{70, 10, 7}, {70, 25, 17}, {1, 10, 1}, {5, 10, 1}, {0, 50, 0}, {999, 100, 999}} {
		if got := part(c.normal, c.percent); got != c.want {
			t.Errorf("part(%d, %d) = %d, want %d", c.normal, c.percent, got, c.want)
		}
	}
	if got := stepFor([]int{10, 100}, 70, 80); got != 1 {
		t.Errorf("stepFor beyond the ramp = %d, want the last", got)
	}
}

func TestRampAlwaysEndsAtNormal(t *testing.T) {
	w := &walk{now: start, idc: 70}
	half := func(r *Route) { r.Ramp = []int{50} }
	w.pass(Up, time.Second, half)
	w.pass(Dark, time.Second, half)
	w.pass(Up, 2*time.Minute, half)
	if w.idc != 70 || w.a.State != Normal {
		t.Fatalf("%s", say(w.a))
	}
}
