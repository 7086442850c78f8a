package world

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// SettleAfter is how long the membership must stand still before we call it
// settled: three gossip intervals of 1 s.
const SettleAfter = 3 * time.Second

// World holds the facts. Its methods may be called from any goroutine and
// never block for long. Slices handed to it must not be changed afterwards.
type World struct {
	mu    sync.Mutex // guards now and moved
	now   decide.Snapshot
	moved time.Time // last change of the membership

	fresh chan struct{}
}

// New makes a world that knows only who we are and what is configured.
func New(self discovery.Identity, settings decide.Settings, services []discovery.ServiceSpec) *World {
	return &World{
		now:   decide.Snapshot{Version: 1, Self: self, Settings: settings, Services: services},
		moved: time.Now(),
		fresh: make(chan struct{}, 1),
	}
}

// Fresh delivers after one or several changes. For a single reader, the brain.
func (w *World) Fresh() <-chan struct{} { return w.fresh }

// Snapshot is the present state of all facts.
func (w *World) Snapshot(now time.Time) *decide.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.now
	s.Settled = now.Sub(w.moved) >= SettleAfter
	return &s
}

// set changes facts under the lock, numbers the result and wakes the reader.
func (w *World) set(change func(s *decide.Snapshot)) {
	w.mu.Lock()
	change(&w.now)
	w.now.Version++
	w.mu.Unlock()
	select {
	case w.fresh <- struct{}{}:
	default:
	}
}

// Members takes the gossip's list, sorted by ID.
func (w *World) Members(ms []discovery.Member) {
	w.set(func(s *decide.Snapshot) {
		if !sameMembership(s.Members, ms) {
			w.moved = time.Now()
		}
		s.Members = ms
	})
}

// Sight takes a report of the prober.
func (w *World) Sight(sight discovery.Sight, views []discovery.View) {
	w.set(func(s *decide.Snapshot) { s.Sight, s.Views = sight, views })
}

// Device takes the device's own status.
func (w *World) Device(st tunnel.Status) {
	w.set(func(s *decide.Snapshot) { s.Device = &st })
}

// Underlay takes the MTU of the largest link towards the mesh, in bytes.
func (w *World) Underlay(bytes int) {
	w.set(func(s *decide.Snapshot) { s.Underlay = bytes })
}

// Streams takes what became of streams, sorted by key.
func (w *World) Streams(st []tunnel.StreamStatus) {
	w.set(func(s *decide.Snapshot) { s.Streams = st })
}

// Endpoints takes what the disk remembers, once, at start.
func (w *World) Endpoints(es []discovery.Endpoint) {
	w.set(func(s *decide.Snapshot) { s.Endpoints = es })
}

// Host takes a reading of what else is on this host.
func (w *World) Host(h tunnel.Host) {
	w.set(func(s *decide.Snapshot) { s.Host = &h })
}

// Subnets takes the networks that the own certificate has.
func (w *World) Subnets(list []netip.Prefix) {
	w.set(func(s *decide.Snapshot) { s.Self.Subnets = list })
}

// Resolved takes what was found under the names of silent gateways, sorted by
// node.
func (w *World) Resolved(es []discovery.Endpoint) {
	w.set(func(s *decide.Snapshot) { s.Resolved = es })
}

// Expires takes the end of the own certificate.
func (w *World) Expires(at time.Time) {
	w.set(func(s *decide.Snapshot) { s.Self.NotAfter = at })
}

// Trust takes own standing and who is no longer trusted.
func (w *World) Trust(t discovery.Trust) {
	w.set(func(s *decide.Snapshot) { s.Trust = t })
}

// Checks takes the health of this node's services, sorted by name.
func (w *World) Checks(cs []discovery.Service) {
	w.set(func(s *decide.Snapshot) { s.Checks = cs })
}

// Groups takes readings of target groups and merges them by id.
func (w *World) Groups(rs []discovery.TargetGroup) {
	w.set(func(s *decide.Snapshot) {
		s.Cloud.Groups = merge(s.Cloud.Groups, rs, func(g discovery.TargetGroup) string { return g.ID })
	})
}

// Splits takes readings of rules and merges them by id.
func (w *World) Splits(rs []discovery.Split) {
	w.set(func(s *decide.Snapshot) {
		s.Cloud.Splits = merge(s.Cloud.Splits, rs, func(r discovery.Split) string { return r.Rule })
	})
}

// NextHops takes readings of VPC route tables and merges them by id.
func (w *World) NextHops(rs []discovery.NextHop) {
	w.set(func(s *decide.Snapshot) {
		s.Cloud.NextHops = merge(s.Cloud.NextHops, rs, func(r discovery.NextHop) string { return r.Table })
	})
}

// merge replaces by key and keeps the rest, sorted by key, in a new slice.
func merge[T any](old, news []T, key func(T) string) []T {
	byKey := make(map[string]T, len(old)+len(news))
	for _, v := range old {
		byKey[key(v)] = v
	}
	for _, v := range news {
		byKey[key(v)] = v
	}
	out := make([]T, 0, len(byKey))
	for _, v := range byKey {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b T) int {
		if key(a) < key(b) {
			return -1
		}
		return 1
	})
	return out
}

// sameMembership reports whether the same nodes are in the same states.
func sameMembership(a, b []discovery.Member) bool {
	return slices.EqualFunc(a, b, func(x, y discovery.Member) bool {
		return x.ID == y.ID && x.State == y.State && x.Addr == y.Addr
	})
}
