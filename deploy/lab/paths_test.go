package lab

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLabNeighbours cuts and mends the wire of two neighbours, as a user would
// measure it: what is lost, and for how long.
func TestLabNeighbours(t *testing.T) {
	r := measurePathsOnce(t, "LAN path")
	if len(r.Figures) != 4 {
		t.Fatalf("%d figures, want 4: %+v", len(r.Figures), r.Figures)
	}
}

// TestLabPaths lets everything happen to the network that measure paths knows:
// about three minutes, see make lab-long.
func TestLabPaths(t *testing.T) {
	if os.Getenv(labEnv) != "long" {
		t.Skipf("set %s=long: this takes three minutes", labEnv)
	}
	r := measurePathsOnce(t, "")
	if want := 2 * len(PathChanges()); len(r.Figures) != want {
		t.Fatalf("%d figures, want %d", len(r.Figures), want)
	}
}

func measurePathsOnce(t *testing.T, only string) Report {
	t.Helper()
	binary := buildBinary(t)
	if err := CheckNamespaces(t.Context()); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	dir := filepath.Join(shortDir(t), "lab")
	out := runLab(t, binary, 8*time.Minute, "measure", "paths", "--runs", "1", "--only", only, "--json", "--mode", string(Namespaces), "--dir", dir)
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("decode %q: %v", out, err)
	}
	for _, f := range r.Failures {
		t.Error(f)
	}
	return r
}

func TestPathsNeedNamespaces(t *testing.T) {
	r, err := RunMeasure(t.Context(), "paths", Options{Mode: Loopback, Out: io.Discard}, Measure{})
	if !errors.Is(err, ErrNeedsNamespaces) || r.Skipped == "" {
		t.Errorf("error %v, skipped %q", err, r.Skipped)
	}
}

func TestPathChangesHaveNamesAndGoals(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range pathChanges {
		if c.name == "" || seen[c.name] || c.goal <= 0 || c.from == c.to || c.do == nil || strings.Contains(c.name, ":") {
			t.Errorf("change %q", c.name)
		}
		seen[c.name] = true
	}
}

// TestPingsTellOutages reads what pings saw.
func TestPingsTellOutages(t *testing.T) {
	began := time.Now().Add(-10 * time.Second)
	seen := func(lost func(i int) bool) *pings {
		p := &pings{}
		for i := range 900 {
			p.sent = append(p.sent, began.Add(time.Duration(i)*askEvery))
			p.back = append(p.back, !lost(i))
		}
		return p
	}
	for _, tt := range []struct {
		name  string
		lost  func(i int) bool
		want  outage
		whole bool
	}{
		{"nothing", func(int) bool { return false }, outage{}, true},
		{"before it began", func(i int) bool { return i < 100 }, outage{}, true},
		{"two seconds", func(i int) bool { return i >= 100 && i < 300 }, outage{200, 2 * time.Second}, true},
		{"a straggler counts", func(i int) bool { return i == 100 || i == 150 }, outage{2, 510 * time.Millisecond}, true},
		{"not over", func(i int) bool { return i >= 100 }, outage{800, 8 * time.Second}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, whole := seen(tt.lost).since(began.Add(time.Second))
			if o != tt.want || whole != tt.whole {
				t.Errorf("%+v, whole %v; want %+v, %v", o, whole, tt.want, tt.whole)
			}
		})
	}
}

// TestChecksum: the example of RFC 1071, section 3.
func TestChecksum(t *testing.T) {
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("checksum %#x", got)
	}
}
