package lab

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/api"
)

func TestTimeline(t *testing.T) {
	cut := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return cut.Add(time.Duration(s * float64(time.Second))) }
	sec := func(s float64) *Seconds { v := Seconds(s); return &v }
	note := func(s float64, kind, subject, to string) Note {
		return Note{Node: "gw-a", Event: api.Event{At: at(s), Kind: kind, Subject: subject, To: to}}
	}
	good := evidence{
		cut: cut, healed: at(10),
		notes: []Note{
			note(-5, api.KindVerdict, SiteRoom, "dark"), // before the cut: another story
			note(0.75, api.KindVerdict, "elsewhere", "dark"),
			note(1, api.KindVerdict, SiteRoom, "dark"),
			note(1.25, api.KindGoal, "api/onprem", "0"),
			note(1.5, api.KindVerdict, SiteRoom, "dark"),
		},
		writes: []cloudWrite{
			{At: at(-9), Weight: map[string]int{PoolRoom: 0}},
			{At: at(1.5), Weight: map[string]int{PoolRoom: 0, PoolCloud: 30}},
			{At: at(3), ENI: "eni-1"},
			{At: at(17), Weight: map[string]int{PoolRoom: 7, PoolCloud: 30}},
			{At: at(26), Weight: map[string]int{PoolRoom: 70, PoolCloud: 30}},
		},
		asked: []Request{
			{Start: at(-1), Err: "before the cut"},
			{Start: at(0.5), Err: "timeout"},
			{Start: at(1.75), Err: "timeout"},
			{Start: at(2.5), By: "app-a"},
		},
	}
	late := good
	late.asked = append(late.asked, Request{Start: at(2.25), Err: "timeout"}, Request{Start: at(18), Err: "timeout"})
	tests := []struct {
		name   string
		e      evidence
		want   Timeline
		broken string
	}{
		{
			name: "as promised", e: good,
			want: Timeline{
				Cut: cut, Detected: sec(1), Decided: sec(1.25), Written: sec(1.5),
				Requests: 3, Failed: 2, LastFailed: sec(1.75),
				Healed: sec(10), ReturnStarted: sec(7), ReturnCompleted: sec(16),
			},
		},
		{
			name: "failures after the write", e: late,
			want: Timeline{
				Cut: cut, Detected: sec(1), Decided: sec(1.25), Written: sec(1.5),
				Requests: 5, Failed: 4, LastFailed: sec(18), FailedAfter: 1, FailedInReturn: 1,
				Healed: sec(10), ReturnStarted: sec(7), ReturnCompleted: sec(16),
			},
			broken: "1 requests failed after",
		},
		{
			name: "nothing moved", e: evidence{cut: cut, healed: at(10)},
			want:   Timeline{Cut: cut, Healed: sec(10)},
			broken: "the weights did not move",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := timelineOf(tt.e)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			switch err := got.broken(); {
			case tt.broken == "" && err != nil:
				t.Errorf("broken: %v", err)
			case tt.broken != "" && (err == nil || !strings.Contains(err.Error(), tt.broken)):
				t.Errorf("broken: %v, want %q", err, tt.broken)
			}
		})
	}
}

func TestReportText(t *testing.T) {
	r := &Report{
		Measure: "blackout", Mode: Loopback, Runs: 4, Command: "drawbridge lab measure blackout --runs 4",
		Machine: Machine{Cores: 2, Kernel: "6.18", Go: "go1.26"},
	}
	for _, v := range []float64{0.97, 1, 1.25, 0.9} {
		r.add("cut to detected", "s", v)
		r.add("failed requests", "requests", v*0)
	}
	r.fail(2, errors.New("the weights did not move"))
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `blackout, loopback, 4 runs; 2 cores, Linux 6.18, go1.26
$ drawbridge lab measure blackout --runs 4

                           median  worst  values
cut to detected, s         0.98    1.25   4
failed requests, requests  0       0      4
FAILED run 3: the weights did not move

`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestParseUsage(t *testing.T) {
	stat := "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 1000 200 18446744073709551615"
	got, err := parseUsage(stat, "1000 250 80 10 0 500 0\n", 4096)
	if want := (usage{cpu: 2 * time.Second, rss: 250 * 4096}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseUsage("42 (x", "", 4096); err == nil {
		t.Error("half a line: want an error")
	}
}

func TestTokenIn(t *testing.T) {
	if got, err := tokenIn("valid for one hour\n  db1.abc.def\n"); err != nil || got != "db1.abc.def" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := tokenIn(" \n"); err == nil {
		t.Error("no token: want an error")
	}
}

func TestPrepareDir(t *testing.T) {
	base, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	dir := filepath.Join(base, "lab")
	if _, err := prepareDir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareDir(t.Context(), dir); err != nil {
		t.Fatalf("a former lab's directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old")); err == nil {
		t.Error("a former lab's file is still there")
	}
	foreign := filepath.Join(base, "mine")
	if err := os.MkdirAll(filepath.Join(foreign, "precious"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareDir(t.Context(), foreign); err == nil || !strings.Contains(err.Error(), "not a lab's") {
		t.Errorf("a foreign directory: %v", err)
	}
	if _, err := prepareDir(t.Context(), filepath.Join(base, strings.Repeat("x", 100))); err == nil {
		t.Error("a directory too long for sockets: want an error")
	}
}
