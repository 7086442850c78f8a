package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/statedir"
	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/discovery/gossip"
	"drawbridge/tunnel"
)

// memberEar carries the gossip's list into the world, and the records behind
// it to the disk, so that a restart needs nobody.
type memberEar struct {
	gossip *gossip.Gossip
	world  *world.World
	dir    *statedir.Dir
	log    *slog.Logger
}

// recordsEvery bounds how often records are written to disk.
const recordsEvery = 5 * time.Second

func (e memberEar) String() string { return "members" }

// Run listens until ctx ends; the last records are written then.
func (e memberEar) Run(ctx context.Context) error {
	e.world.Members(e.gossip.Members())
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			e.keep()
			return nil
		case <-e.gossip.Changed():
			e.world.Members(e.gossip.Members())
			if due == nil {
				due = time.After(recordsEvery)
			}
		case <-due:
			due = nil
			e.keep()
		}
	}
}

func (e memberEar) keep() {
	if err := e.dir.SetPeers(e.gossip.Export()); err != nil {
		e.log.Warn("records not written: after a restart this node needs a gateway that knows the others", "err", err)
	}
}

// deviceEar reads the device's own status and remembers where peers were heard
// from.
type deviceEar struct {
	device tunnel.Device
	world  *world.World
	dir    *statedir.Dir
	log    *slog.Logger
	known  []discovery.Endpoint
}

const (
	deviceEvery    = time.Second
	endpointsEvery = time.Minute // between writes when only addresses moved
)

func (e *deviceEar) String() string { return "device status" }

// Run reads until ctx ends.
func (e *deviceEar) Run(ctx context.Context) error {
	ticker := time.NewTicker(deviceEvery)
	defer ticker.Stop()
	var written time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		st, err := e.device.Status(ctx)
		if err != nil {
			e.log.Debug("device status unknown", "err", err)
			continue
		}
		e.world.Device(st)
		heard := e.heard(st)
		if slices.Equal(heard, e.known) || sameNodes(heard, e.known) && time.Since(written) < endpointsEvery {
			continue
		}
		if err := e.dir.SetEndpoints(heard); err != nil {
			e.log.Warn("endpoints not written: a restart will wait for peers to dial", "err", err)
			continue
		}
		e.known, written = heard, time.Now()
	}
}

// heard lists where peers with a session were heard from. Peers that have not
// been heard since our start keep what was remembered of them.
func (e *deviceEar) heard(st tunnel.Status) []discovery.Endpoint {
	byKey := map[tunnel.Key]discovery.NodeID{}
	for _, m := range e.world.Snapshot(time.Now()).Members {
		byKey[tunnel.Key(m.WireGuard)] = m.ID
	}
	at := map[discovery.NodeID]discovery.Endpoint{}
	for _, k := range e.known {
		at[k.Node] = k
	}
	for _, p := range st.Peers {
		if id, ok := byKey[p.Key]; ok && p.Endpoint.IsValid() && !tunnel.Streamed(p.Endpoint) && !p.LastHandshake.IsZero() {
			at[id] = discovery.Endpoint{Node: id, Addr: p.Endpoint}
		}
	}
	out := make([]discovery.Endpoint, 0, len(at))
	for _, id := range byKey {
		if k, ok := at[id]; ok {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b discovery.Endpoint) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return out
}

func sameNodes(a, b []discovery.Endpoint) bool {
	return slices.EqualFunc(a, b, func(x, y discovery.Endpoint) bool { return x.Node == y.Node })
}

// herald tells the mesh what this node says of itself, as it changes.
type herald struct {
	world  *world.World
	gossip *gossip.Gossip
	log    *slog.Logger

	mu   sync.Mutex // guards said
	said discovery.Announcement
}

// say changes what is said, and tells the mesh if that is news.
func (h *herald) say(change func(*discovery.Announcement)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.said)
	if err := h.gossip.Announce(h.said); err != nil {
		h.log.Error("own record not told", "err", err)
	}
}

// trusts tells which set of roots this node trusts.
func (h *herald) trusts(epoch uint64) {
	h.say(func(a *discovery.Announcement) { a.Trust = epoch })
}

// services takes a report of the checks.
func (h *herald) services(cs []discovery.Service) {
	h.world.Checks(cs)
	h.say(func(a *discovery.Announcement) { a.Services = cs })
}

// direct tells with which neighbours this node has a session.
func (h *herald) direct(list []netip.Addr) {
	h.say(func(a *discovery.Announcement) { a.Direct = list })
}
