package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/decide"
	"drawbridge/agent/world"
)

// The pace of the brain. Gateways judge darkness, so they think often; a
// server has nothing to judge but its own paths.
const (
	gatewayTick = 50 * time.Millisecond
	serverTick  = 500 * time.Millisecond
	leastGap    = 10 * time.Millisecond // between two thoughts, however much is new
)

// brain turns snapshots into plans.
type brain struct {
	world   *world.World
	tick    time.Duration
	journal *api.Journal
	log     *slog.Logger
	act     func(*decide.Snapshot, *decide.Plan)

	snapshot atomic.Pointer[decide.Snapshot]
	plan     atomic.Pointer[decide.Plan]
}

func (b *brain) String() string { return "brain" }

// Run thinks on every tick and whenever something is new.
func (b *brain) Run(ctx context.Context) error {
	var memory decide.Memory
	ticker := time.NewTicker(b.tick)
	defer ticker.Stop()
	for {
		memory = b.think(time.Now(), memory)
		gap := time.NewTimer(leastGap)
		select {
		case <-ctx.Done():
			gap.Stop()
			return nil
		case <-gap.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-b.world.Fresh():
		}
	}
}

func (b *brain) think(now time.Time, memory decide.Memory) decide.Memory {
	s := b.world.Snapshot(now)
	memory, plan := decide.Decide(now, memory, s)
	b.note(now, b.snapshot.Swap(s), s, b.plan.Swap(plan), plan)
	b.act(s, plan)
	return memory
}

// note writes what changed between two thoughts into the journal and the log.
func (b *brain) note(now time.Time, wasS, s *decide.Snapshot, was, is *decide.Plan) {
	for _, e := range changes(wasS, s, was, is) {
		e.At = now
		b.journal.Add(e)
		b.log.Info("changed", "kind", e.Kind, "subject", e.Subject, "from", e.From, "to", e.To, "reason", e.Reason)
	}
}
