package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// clock remembers, over restarts, the latest time that this host's clock has
// shown. The data plane needs no clock, but WireGuard dates handshakes by it.
type clock struct {
	dir   *statedir.Dir
	trust *trust
	log   *slog.Logger

	latest time.Time
	kept   time.Time // on disk
	told   bool      // that the clock was set back
}

const (
	clockEvery = time.Second
	clockKept  = time.Minute // between writes; what is remembered may be so much too early
	// clockStep is what a clock may go back unnoticed: daemons that keep it
	// right take small steps.
	clockStep = time.Second
)

// newClock reads what is remembered. It writes nothing: an agent that cannot
// start changes nothing.
func newClock(dir *statedir.Dir, t *trust, log *slog.Logger) *clock {
	c := &clock{dir: dir, trust: t, log: log}
	var err error
	if c.latest, err = dir.LatestTime(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("latest time unreadable: a clock set back since the last run is not noticed", "err", err)
	}
	c.kept = c.latest
	c.look(time.Now())
	return c
}

func (*clock) String() string { return "clock" }

// Run looks at the clock until ctx ends.
func (c *clock) Run(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c.look(time.Now())
		c.keep()
	}
}

// look compares the clock with the latest that it has shown.
func (c *clock) look(now time.Time) {
	now = now.Round(0) // the monotonic reading knows of no step
	if now.After(c.latest) {
		c.latest = now
	}
	back := c.latest.Sub(now)
	if c.told == (back > clockStep) {
		return
	}
	var was time.Time
	if c.told = !c.told; c.told {
		was = c.latest
		c.log.Warn("this host's clock was set back", "by", back, "from", was)
	}
	c.trust.set(func(f *discovery.Trust) { f.ClockWas = was })
}

// keep writes what is to be remembered, when it is time to.
func (c *clock) keep() {
	if c.latest.Sub(c.kept) < clockKept {
		return
	}
	if err := c.dir.SetLatestTime(c.latest); err != nil {
		c.log.Warn("latest time not written: a clock set back is not noticed after a restart", "err", err)
		return
	}
	c.kept = c.latest
}
