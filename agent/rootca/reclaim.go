package rootca

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
)

// ErrNoGateway means that no gateway of that name or node has a block.
var ErrNoGateway = errors.New("no such gateway")

// Reclaim takes back the block of a gateway that is lost for good, named by its
// name or node. The block rests (see [Rest]) and may then be given to another.
// What the gateway certified stays valid: revoke its node, and its issuing key
// if that was stolen. Reclaiming it again changes nothing. Call it within
// [statedir.Dir.Update].
func Reclaim(dir *statedir.Dir, gateway string, now time.Time) (netip.Prefix, error) {
	block, err := reclaim(dir, gateway, now)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reclaim block of %q: %w", clip(gateway), err)
	}
	return block, nil
}

func reclaim(dir *statedir.Dir, gateway string, now time.Time) (netip.Prefix, error) {
	v, err := open(dir)
	if err != nil {
		return netip.Prefix{}, err
	}
	if _, err := v.signer(v.roots[0]); err != nil {
		return netip.Prefix{}, err // the ledger of blocks is with the key
	}
	ledger, err := dir.Allocations()
	if err != nil {
		return netip.Prefix{}, err
	}
	g := find(ledger.Blocks, gateway)
	switch {
	case g == nil:
		return netip.Prefix{}, fmt.Errorf("%w: the ledger has %s", ErrNoGateway, names(ledger.Blocks))
	case g.Block == ledger.Block:
		return netip.Prefix{}, errors.New("it is this gateway's own")
	case !g.Freed.IsZero():
		return g.Block, nil
	}
	if err := record(dir, history.Event{
		At: now, Subject: string(g.Node) + " " + g.Name, To: "reclaimed", Detail: map[string]string{"block": g.Block.String()},
	}); err != nil {
		return netip.Prefix{}, err
	}
	g.Freed = now.UTC()
	return g.Block, dir.SetAllocations(ledger)
}

// find points into the ledger: a gateway in use before one that is not.
func find(blocks []statedir.Grant, gateway string) *statedir.Grant {
	var gone *statedir.Grant
	for i := range blocks {
		g := &blocks[i]
		if g.Name != gateway && string(g.Node) != gateway {
			continue
		}
		if g.Freed.IsZero() {
			return g
		}
		gone = g
	}
	return gone
}

func names(blocks []statedir.Grant) string {
	text := "none"
	for i, g := range blocks {
		if i == 0 {
			text = g.Name
			continue
		}
		text += ", " + g.Name
	}
	return text
}
