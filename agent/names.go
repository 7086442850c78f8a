package agent

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

// nameEar resolves names: those of a gateway itself, so that it tells its
// present addresses, and those of gateways that have fallen silent, in case
// that all of them moved at once and nobody is left to tell it.
type nameEar struct {
	agent  *Agent
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	ownNames    = 30 * time.Second // between lookups of own names
	searchFirst = 2 * time.Second  // between lookups of silent gateways' names, then doubling
	searchMost  = time.Minute
	// A gateway that has given no proof for so long is looked up.
	silentFor = 3 * time.Second
	lookupMax = 3 * time.Second // of one name
	perName   = 4               // addresses that are taken
)

func (e *nameEar) String() string { return "names" }

// Run resolves until ctx ends.
func (e *nameEar) Run(ctx context.Context) error {
	a := e.agent
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var own, search time.Time
	pause := searchFirst
	for {
		now := time.Now()
		if len(a.set.EndpointNames) > 0 && now.Sub(own) >= ownNames {
			own = now
			if list := e.resolve(ctx, a.set.EndpointNames); len(list) > 0 {
				a.names.set(list)
			}
		}
		switch silent := silentGateways(now, a.world.Snapshot(now)); {
		case len(silent) == 0:
			pause = searchFirst
		case now.Sub(search) >= pause:
			search, pause = now, min(2*pause, searchMost)
			if found := e.find(ctx, silent); len(found) > 0 {
				a.world.Resolved(found)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// silentGateways are other gateways with names that give no proof.
func silentGateways(now time.Time, s *decide.Snapshot) []discovery.Member {
	if s.Sight.Started.IsZero() || now.Sub(s.Sight.Started) < silentFor {
		return nil
	}
	proof := map[discovery.NodeID]time.Time{}
	for _, o := range s.Sight.Observations {
		proof[o.Node] = o.Proof
	}
	var out []discovery.Member
	for _, m := range s.Members {
		if m.Role == discovery.RoleGateway && m.ID != s.Self.ID && len(m.Names) > 0 && now.Sub(proof[m.ID]) >= silentFor {
			out = append(out, m)
		}
	}
	return out
}

// find resolves the names of gateways, which are sorted by ID.
func (e *nameEar) find(ctx context.Context, ms []discovery.Member) []discovery.Endpoint {
	var out []discovery.Endpoint
	for _, m := range ms {
		for _, at := range e.resolve(ctx, m.Names) {
			out = append(out, discovery.Endpoint{Node: m.ID, Addr: at})
		}
	}
	return out
}

// resolve looks names up. What cannot be found now is left out.
func (e *nameEar) resolve(ctx context.Context, names []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, n := range names {
		host, text, err := net.SplitHostPort(n)
		if err != nil {
			continue
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			continue
		}
		lctx, cancel := context.WithTimeout(ctx, lookupMax)
		addrs, err := e.lookup(lctx, "ip", host)
		cancel()
		if err != nil {
			e.agent.log.Debug("name not resolved", "endpoint", n, "err", err)
			continue
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		taken := 0
		for _, a := range addrs {
			at := netip.AddrPortFrom(a.Unmap(), uint16(port))
			if taken < perName && a.IsGlobalUnicast() && !slices.Contains(out, at) {
				out = append(out, at)
				taken++
			}
		}
	}
	return out
}

// found keeps what a gateway's own names resolved to last.
type found struct {
	mu   sync.Mutex // guards list
	list []netip.AddrPort
}

func (f *found) set(list []netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = list
}

// named are the addresses under the own names.
func (a *Agent) named() []netip.AddrPort {
	a.names.mu.Lock()
	defer a.names.mu.Unlock()
	return slices.Clone(a.names.list)
}
