package api

import (
	"context"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/agent/reconcile"
	"drawbridge/discovery"
)

// Source is what the desk asks; the house answers. All methods may be called
// from several goroutines, return at once (Calls excepted), and what they
// return is not changed afterwards.
type Source interface {
	// Snapshot is the newest state of all facts; nil before the first.
	Snapshot() *decide.Snapshot
	// Plan is the newest decision; nil before the first.
	Plan() *decide.Plan
	// Outcomes are the last attempts of every hand, sorted by hand.
	Outcomes() []reconcile.Outcome
	// Calls are the AWS calls that the present wish would make. It reads AWS
	// and sends nothing that changes it.
	Calls(ctx context.Context) ([]discovery.Call, error)
	// Counters are running totals since the start, by stable names.
	Counters() map[string]uint64
	// Events are the journal's entries after the given number, oldest first.
	Events(since uint64) []Event
	// Trust is who is trusted, and who no longer.
	Trust() Trust
	Info() Info
}

// Info is what never changes while the agent runs.
type Info struct {
	Mesh          string // name of the mesh
	Version       string // of the agent
	Backend       string // of the device, see tunnel.Backend
	BackendReason string // why that one
	Interface     string // system interface; "" on netstack
	Started       time.Time
	StateDir      string
}
