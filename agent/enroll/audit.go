package enroll

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// The kinds of events in the audit journal.
const (
	eventTokenCreated = "token-created"
	eventTokenUsed    = "token-used"
	eventTokenRevoked = "token-revoked"
	eventIssued       = "certificate-issued"
	eventRenewed      = "certificate-renewed"
	eventRefused      = "enrolment-refused"
	eventRefusals     = "enrolment-refusals" // a count of those not written one by one
	eventWaiting      = "host-waiting"
	eventApproved     = "host-approved"
	eventDenied       = "host-refused"
	eventReplaced     = "node-replaced"
	eventLeft         = "node-left"
	eventGrant        = "grant-installed"
	eventMesh         = "mesh-made"
	eventJoined       = "joined"
	eventSubnets      = "subnets-allowed"
)

// journal is where events go: to the house, or at once to the disk.
func journal(dir *statedir.Dir, to func(history.Event), log *slog.Logger) func(history.Event) {
	if to != nil {
		return to
	}
	return func(e history.Event) {
		if err := history.Append(dir.Path(), e); err != nil {
			log.Error("audit event not kept", "reason", e.Kind, "err", err)
		}
	}
}

// note appends an event of a command. The command did its work: an event that
// no disk takes is told, and changes nothing.
func note(dir *statedir.Dir, e history.Event) error {
	if e.Actor == "" {
		e.Actor = history.Person()
	}
	if err := history.Append(dir.Path(), e); err != nil {
		return fmt.Errorf("done, but not written to the history: %w", err)
	}
	return nil
}

// wireActor is who asked over the wire.
func wireActor(id discovery.NodeID, name string, from netip.Addr) string {
	switch {
	case id == "":
		return "stranger from " + from.Unmap().String()
	case name == "":
		return fmt.Sprintf("node %s from %s", id.Short(), from.Unmap())
	}
	return fmt.Sprintf("node %s %s from %s", id.Short(), name, from.Unmap())
}

// subject names a node in the journal.
func subject(id discovery.NodeID, name string) string { return string(id) + " " + name }

// Bounds of refusals in the journal: a flood must not roll it over.
const (
	refusalWindow = time.Minute
	maxRefusals   = 60 // in one window, of all sources
)

type refusal struct {
	from netip.Addr
	code Code
}

// auditor writes events, and thins out refusals.
type auditor struct {
	keep func(history.Event)

	mu      sync.Mutex // guards the fields below
	since   time.Time  // begin of the window
	told    map[refusal]bool
	skipped int // in this window
}

// refused notes a refusal: one per source and code and minute, sixty a minute
// in all; the others are counted.
func (a *auditor) refused(c *call, bad *Error) {
	a.settle(c.now)
	a.mu.Lock()
	key := refusal{sourceOf(c.from.Addr()), bad.Code}
	write := !a.told[key] && len(a.told) < maxRefusals
	if write {
		if a.told == nil {
			a.told, a.since = map[refusal]bool{}, c.now
		}
		a.told[key] = true
	} else {
		a.skipped++
	}
	a.mu.Unlock()
	if !write {
		return
	}
	e := history.Event{
		At: c.now, Kind: eventRefused, Reason: string(bad.Code), Actor: c.actor(),
		Detail: map[string]string{"text": printable(bad.Text)},
	}
	if c.id != "" { // or the question was never read
		e.Subject, e.Detail["kind"] = subject(c.id, c.Name), c.Kind
		if c.Token != "" {
			e.Detail["token"] = c.Token
		}
	}
	a.keep(e)
}

// settle ends a window that is over, and tells what was not written in it. It
// is called with every question.
func (a *auditor) settle(now time.Time) {
	a.mu.Lock()
	if a.told == nil || now.Sub(a.since) < refusalWindow && !now.Before(a.since) {
		a.mu.Unlock()
		return
	}
	n, since := a.skipped, a.since
	a.told, a.skipped = nil, 0
	a.mu.Unlock()
	if n > 0 {
		a.keep(history.Event{
			At: now, Kind: eventRefusals, Actor: "agent",
			Detail: map[string]string{"count": strconv.Itoa(n), "since": since.UTC().Format(time.RFC3339)},
		})
	}
}
