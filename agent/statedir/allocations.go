package statedir

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// allocationsVersion is written; 1, without recoveries and successors, is read too.
const allocationsVersion = 2

// Allocations is a gateway's ledger: which addresses of its block it gave to
// whom and, where the root key is, which blocks. An entry in use is never
// removed, so that nothing is given twice by mistake.
type Allocations struct {
	Version int          `json:"version"`
	Block   netip.Prefix `json:"block"` // this gateway's
	Addrs   []Allocation `json:"addrs"` // sorted by address
	Blocks  []Grant      `json:"blocks"`
	// Renewed are nodes of other gateways that were recovered here after their
	// certificate had ended, sorted by node.
	Renewed []Recovery `json:"renewed,omitempty"`
	// Succeeded are nodes whose name passed to another, until the house has
	// been told; sorted by node.
	Succeeded []Successor `json:"succeeded,omitempty"`
}

// Allocation is one address given to one node.
type Allocation struct {
	Addr     netip.Addr       `json:"addr"`
	Node     discovery.NodeID `json:"node"`
	Name     string           `json:"name"`
	Site     string           `json:"site"`
	Role     discovery.Role   `json:"role"`
	Since    time.Time        `json:"since"`
	NotAfter time.Time        `json:"not_after,omitzero"` // end of the newest certificate
	Freed    time.Time        `json:"freed,omitzero"`     // zero: in use

	Ephemeral bool   `json:"ephemeral,omitempty"` // goes when it is gone
	Instance  string `json:"instance,omitempty"`  // of EC2, if it joined by its AWS identity
	Recovered int    `json:"recovered,omitempty"` // how often it was renewed after its end
	// Subnets are the networks that the node may advertise.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
}

// Recovery counts how often a node of another gateway was renewed here after
// the end of its certificate.
type Recovery struct {
	Node     discovery.NodeID `json:"node"`
	Count    int              `json:"count"`
	NotAfter time.Time        `json:"not_after"` // end of the certificate given here
}

// Successor says that the name of Node now belongs to By.
type Successor struct {
	Node discovery.NodeID `json:"node"`
	Name string           `json:"name"`
	Site string           `json:"site"`
	Role discovery.Role   `json:"role"`
	Addr netip.Addr       `json:"addr,omitzero"`
	By   discovery.NodeID `json:"by"`
	At   time.Time        `json:"at"`
}

// Grant is one address block given to one gateway.
type Grant struct {
	Block netip.Prefix     `json:"block"`
	Node  discovery.NodeID `json:"node"`
	Name  string           `json:"name"`
	Since time.Time        `json:"since"`
	Freed time.Time        `json:"freed,omitzero"` // reclaimed; zero: in use
}

// Allocations reads the ledger. Only gateways have one.
func (d *Dir) Allocations() (Allocations, error) {
	var a Allocations
	if err := d.readJSON(fileAllocations, &a); err != nil {
		return Allocations{}, err
	}
	if a.Version < 1 || a.Version > allocationsVersion {
		return Allocations{}, fmt.Errorf("read %s/%s: %w: version %d, want at most %d; install the newer version again", d.path, fileAllocations, ErrVersion, a.Version, allocationsVersion)
	}
	if err := a.check(); err != nil {
		return Allocations{}, d.damaged(fileAllocations, err)
	}
	return a, nil
}

// SetAllocations keeps the ledger. Version is filled in and the lists are
// sorted. Call it within [Dir.Update].
func (d *Dir) SetAllocations(a Allocations) error {
	a.Version = allocationsVersion
	a.Addrs, a.Blocks = slices.Clone(a.Addrs), slices.Clone(a.Blocks)
	slices.SortFunc(a.Addrs, func(x, y Allocation) int { return x.Addr.Compare(y.Addr) })
	slices.SortFunc(a.Blocks, func(x, y Grant) int { return tunnel.ComparePrefix(x.Block, y.Block) })
	a.Renewed, a.Succeeded = slices.Clone(a.Renewed), slices.Clone(a.Succeeded)
	slices.SortFunc(a.Renewed, func(x, y Recovery) int { return strings.Compare(string(x.Node), string(y.Node)) })
	slices.SortFunc(a.Succeeded, func(x, y Successor) int { return strings.Compare(string(x.Node), string(y.Node)) })
	if err := a.check(); err != nil {
		return fmt.Errorf("write %s: %w", fileAllocations, err)
	}
	return d.writeJSON(fileAllocations, a)
}

// check holds the ledger's promise: nothing stands in it twice. An offline root
// gives blocks and has none, so it has no addresses.
func (a Allocations) check() error {
	if !a.Block.IsValid() && len(a.Addrs) > 0 {
		return fmt.Errorf("no address block")
	}
	for i, e := range a.Addrs {
		if !a.Block.Contains(e.Addr) {
			return fmt.Errorf("address %s is outside the block %s", e.Addr, a.Block)
		}
		if i > 0 && a.Addrs[i-1].Addr.Compare(e.Addr) >= 0 {
			return fmt.Errorf("address %s stands twice or out of order", e.Addr)
		}
		if err := checkSubnets(e.Subnets); err != nil {
			return fmt.Errorf("address %s: %w", e.Addr, err)
		}
	}
	for i, g := range a.Blocks {
		if !g.Block.IsValid() || i > 0 && a.Blocks[i-1].Block.Overlaps(g.Block) {
			return fmt.Errorf("block %s is invalid or stands twice", g.Block)
		}
	}
	return nil
}
