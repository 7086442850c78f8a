package gossip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"drawbridge/discovery"
)

// memberlist visits only the living, and forgets the dead after a while: a
// partition of a minute would last for ever. So every node keeps knocking at
// gateways and seeds that are not alive, and at a few others.
const (
	knocksAtSeeds  = 16
	knocksAtOthers = 2
)

// rejoin knocks until ctx ends.
func (g *Gossip) rejoin(ctx context.Context, ml *memberlist.Memberlist, every time.Duration) {
	for {
		var wg sync.WaitGroup
		for _, addr := range g.lost() {
			wg.Go(func() {
				at := netip.AddrPortFrom(addr, g.opt.Port).String()
				if _, err := ml.Join([]string{at}); err != nil {
					g.log.Debug("nobody answers there", "peer", addr, "err", err)
				}
			})
		}
		wait := time.NewTimer(every - every/8 + rand.N(every/4))
		wg.Wait()
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

// lost lists where to knock: gateways and seeds that are not alive, and some
// of the other nodes that are not, in no order. Who left said so and is asked
// only as a gateway or seed. When a stranger spoke, a living gateway is asked
// who that may be.
func (g *Gossip) lost() []netip.Addr {
	alive := map[netip.Addr]bool{g.opt.Self.Addr: true}
	first := map[netip.Addr]bool{}
	var others, well []netip.Addr
	for _, m := range g.book.members() {
		switch {
		case m.State == discovery.StateAlive:
			alive[m.Addr] = true
			if m.Role == discovery.RoleGateway && m.ID != g.opt.Self.ID {
				well = append(well, m.Addr)
			}
		case m.ID == g.opt.Self.ID:
		case m.Role == discovery.RoleGateway:
			first[m.Addr] = true
		case m.State != discovery.StateLeft:
			others = append(others, m.Addr)
		}
	}
	for _, a := range g.opt.Seeds() {
		if a = a.Unmap(); g.opt.Mesh.Contains(a) {
			first[a] = true
		}
	}
	var seeds []netip.Addr
	for a := range first {
		if !alive[a] {
			seeds = append(seeds, a)
		}
	}
	others = slices.DeleteFunc(others, func(a netip.Addr) bool { return first[a] || alive[a] })
	at := append(pick(seeds, knocksAtSeeds), pick(others, knocksAtOthers)...)
	if g.stranger.Swap(false) {
		at = append(at, pick(well, 1)...)
	}
	return at
}

// pick takes up to n of list by chance.
func pick(list []netip.Addr, n int) []netip.Addr {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(n, len(list))]
}
