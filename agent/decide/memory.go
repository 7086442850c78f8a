package decide

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/weight"
	"drawbridge/discovery"
	"drawbridge/tunnel/mtu"
)

// Memory is what the world cannot tell: how long something has lasted, and how
// often it was tried. The zero value is a fresh start. It is plain data, may be
// written as JSON, and no function changes a memory that it was given.
type Memory struct {
	// Started names the start of the prober that this memory belongs to.
	Started time.Time `json:"started,omitzero"`
	// Settled: membership has settled once since Started.
	Settled bool           `json:"settled,omitempty"`
	Sites   []SiteMemory   `json:"sites,omitempty"`   // sorted by site
	Routes  []RouteMemory  `json:"routes,omitempty"`  // sorted by route
	Lost    []LostMemory   `json:"lost,omitempty"`    // sorted by address
	Epochs  []EpochMemory  `json:"epochs,omitempty"`  // sorted by gateway
	Near    []NearMemory   `json:"near,omitempty"`    // sorted by node
	Hops    []HopMemory    `json:"hops,omitempty"`    // sorted by table
	Paths   []PathMemory   `json:"paths,omitempty"`   // sorted by node
	Streams []StreamMemory `json:"streams,omitempty"` // sorted by gateway
}

// PathMemory is the search for the largest packet to a peer.
type PathMemory struct {
	Node discovery.NodeID `json:"node"`
	mtu.Memory
}

// SiteMemory is what is remembered of a remote site.
type SiteMemory struct {
	Site    string           `json:"site"`
	Verdict Verdict          `json:"verdict"`
	Reason  discovery.Reason `json:"reason"`
	Since   time.Time        `json:"since"`         // of the verdict
	Known   time.Time        `json:"known"`         // when the site was first known
	Seen    time.Time        `json:"seen,omitzero"` // newest proof of a node, also of one no longer probed
	Lit     time.Time        `json:"lit,omitzero"`  // since when the own view has been lit; zero: it is not
	Steady  bool             `json:"steady,omitempty"`
}

// RouteMemory is what is remembered of a route.
type RouteMemory struct {
	Route string `json:"route"`
	weight.Memory
}

// LostMemory is a registered target whose node is gone or unknown.
type LostMemory struct {
	Addr  netip.Addr `json:"addr"`
	Since time.Time  `json:"since"`
}

// EpochMemory counts the handshakes that were forced towards a gateway (by a
// gateway: that would have been), and where it is dialled.
type EpochMemory struct {
	Gateway discovery.NodeID `json:"gateway"`
	Epoch   uint64           `json:"epoch"`
	Bumps   int              `json:"bumps"` // since it fell silent
	Last    time.Time        `json:"last"`
	At      netip.AddrPort   `json:"at,omitzero"`
	Known   []netip.AddrPort `json:"known,omitempty"` // where else, to notice what is new
}

// NearMemory is how a server that may be reached without a gateway was tried.
type NearMemory struct {
	Node  discovery.NodeID `json:"node"`
	Door  netip.AddrPort   `json:"door,omitzero"`  // dialled; zero: it may dial
	First netip.AddrPort   `json:"first"`          // of its doors, to notice new ones
	Tries int              `json:"tries"`          // in vain, in a row
	Since time.Time        `json:"since"`          // of the present try or rest
	Moved time.Time        `json:"moved,omitzero"` // since when the path is direct; zero: it is not
	Lost  time.Time        `json:"lost,omitzero"`  // when a direct path broke last
	Times int              `json:"times"`          // that it broke, until it held for long
	Epoch uint64           `json:"epoch"`
}

// HopMemory is a VPC route that was moved away from a silent gateway. If it
// comes back to that gateway, somebody lives there who writes.
type HopMemory struct {
	Table string    `json:"table"`
	From  string    `json:"from"` // ENI of the silent gateway
	Moved bool      `json:"moved"`
	Back  time.Time `json:"back,omitzero"` // when it had come back
}

// begin makes the new memory: what belongs to an earlier start of the process
// is dropped, so that facts decide again where a route stands.
func (m Memory) begin(s *Snapshot) Memory {
	started := s.Sight.Started
	out := Memory{Started: m.Started, Settled: m.Settled, Paths: m.Paths}
	if !started.Equal(m.Started) {
		out.Started, out.Settled = started, false
	}
	out.Settled = out.Settled || s.Settled && !started.IsZero()
	return out
}

// restarted reports whether old belongs to an earlier start.
func (m Memory) restarted(old Memory) bool { return !m.Started.Equal(old.Started) }

// find looks a key up in a list sorted by it.
func find[T any, K cmp.Ordered](list []T, k K, key func(*T) K) *T {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if key(&list[mid]) < k {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(list) && key(&list[lo]) == k {
		return &list[lo]
	}
	return nil
}

func (m *Memory) site(name string) *SiteMemory {
	return find(m.Sites, name, func(s *SiteMemory) string { return s.Site })
}

func (m *Memory) route(name string) *RouteMemory {
	return find(m.Routes, name, func(r *RouteMemory) string { return r.Route })
}

func (m *Memory) hop(table string) *HopMemory {
	return find(m.Hops, table, func(h *HopMemory) string { return h.Table })
}

func (m *Memory) epoch(id discovery.NodeID) *EpochMemory {
	return find(m.Epochs, id, func(e *EpochMemory) discovery.NodeID { return e.Gateway })
}

func (m *Memory) stream(id discovery.NodeID) *StreamMemory {
	return find(m.Streams, id, func(s *StreamMemory) discovery.NodeID { return s.Gateway })
}

func (m *Memory) near(id discovery.NodeID) *NearMemory {
	return find(m.Near, id, func(n *NearMemory) discovery.NodeID { return n.Node })
}

func (m *Memory) lost(a netip.Addr) *LostMemory {
	i, ok := slices.BinarySearchFunc(m.Lost, a, func(l LostMemory, a netip.Addr) int { return l.Addr.Compare(a) })
	if !ok {
		return nil
	}
	return &m.Lost[i]
}
