package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drawbridge/agent/statedir"
)

// TestClockSetBack: what the clock showed is remembered over restarts, and told
// until it has passed that time again.
func TestClockSetBack(t *testing.T) {
	dir, err := statedir.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	tr := &trust{}
	c := newClock(dir, tr, log)
	base := c.latest.Add(time.Hour) // away from the time of the test
	for _, tt := range []struct {
		name  string
		after time.Duration // of base
		want  time.Duration // after base; -1: was not set back
	}{
		{"runs", 0, -1},
		{"jumps ahead", 2 * time.Hour, -1},
		{"a small step back", 2*time.Hour - time.Second, -1},
		{"is put right", time.Minute, 2 * time.Hour},
		{"runs on", time.Hour, 2 * time.Hour},
		{"a further step back", -time.Hour, 2 * time.Hour},
		{"has nearly passed it", 2*time.Hour - 10*time.Second, 2 * time.Hour},
		{"has passed it", 2*time.Hour + time.Second, -1},
		{"goes back again", 0, 2*time.Hour + time.Second},
	} {
		c.look(base.Add(tt.after))
		var want time.Time
		if tt.want >= 0 {
			want = base.Add(tt.want)
		}
		if got := tr.facts.ClockWas; !got.Equal(want) {
			t.Errorf("%s: told %v, want %v", tt.name, got, want)
		}
	}
	latest := c.latest
	c.keep()
	c.look(latest.Add(time.Second))
	c.keep() // too soon to be written again
	again := &trust{}
	newClock(dir, again, log)
	if !again.facts.ClockWas.Equal(latest) {
		t.Errorf("after a restart %v, want %v", again.facts.ClockWas, latest)
	}
	if at, err := dir.LatestTime(); err != nil || !at.Equal(latest) {
		t.Errorf("%v on disk, %v, want %v", at, err, latest)
	}

	// A damaged file is as good as none.
	file := filepath.Join(dir.Path(), "clock.json")
	if err := os.WriteFile(file, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	again = &trust{}
	c = newClock(dir, again, log)
	c.keep()
	if _, err := dir.LatestTime(); err != nil || !again.facts.ClockWas.IsZero() {
		t.Errorf("after damage: %v, %v", again.facts.ClockWas, err)
	}
}
