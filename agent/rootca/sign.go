package rootca

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// Rest is how long a reclaimed block rests before another gateway may get it.
// The certificates that its former owner made have ended then; those that other
// gateways have renewed since have not, and nobody here knows of them: so the
// new owner must look at who still uses an address before it gives it away.
const Rest = pki.NodeLife + 24*time.Hour

// What a request can be refused for.
var (
	// ErrOtherMesh: the request is for another mesh, or trusts another root.
	ErrOtherMesh = errors.New("request for another mesh")
	// ErrNameTaken: another node has the name.
	ErrNameTaken = errors.New("name taken")
	// ErrNoBlock: all blocks of the mesh are given.
	ErrNoBlock = errors.New("no address block left")
)

// Sign certifies the issuing key of a gateway for a block: its own block again,
// or the lowest that was never given, or else the one that was reclaimed first
// and has rested (see [Rest]). The ledger is on disk when it returns. A node or
// key that a notice of the directory revokes is refused with [pki.ErrRevoked].
// Call it within [statedir.Dir.Update].
func Sign(dir *statedir.Dir, req Request, now time.Time) (Grant, error) {
	g, err := sign(dir, req, now)
	if err != nil {
		return Grant{}, fmt.Errorf("certify gateway %q: %w", clip(req.Name), err)
	}
	return g, nil
}

func sign(dir *statedir.Dir, req Request, now time.Time) (Grant, error) {
	if err := req.check(); err != nil {
		return Grant{}, err
	}
	v, err := open(dir)
	if err != nil {
		return Grant{}, err
	}
	if err := v.accepts(req); err != nil {
		return Grant{}, err
	}
	root, err := v.signer(v.roots[0])
	if err != nil {
		return Grant{}, err
	}
	ledger, err := dir.Allocations()
	if err != nil {
		return Grant{}, err
	}
	entry, err := give(&ledger, v.mesh, req, now)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Node: req.Node, Name: req.Name, Block: entry.Block, Roots: v.roots}
	if g.Issuer, err = pki.NewIssuer(root, req.Issuer, req.Name, entry.Block, now); err != nil {
		return Grant{}, err
	}
	if g.Renewer, err = pki.NewRenewer(root, req.Issuer, req.Name, now); err != nil {
		return Grant{}, err
	}
	// A revoked key must not come back under a new certificate.
	if err := v.refuseRevoked(req, g.Issuer); err != nil {
		return Grant{}, err
	}
	key, err := pki.Pin(g.Issuer)
	if err != nil {
		return Grant{}, err
	}
	if err := record(dir, history.Event{
		At: now, Subject: string(req.Node) + " " + req.Name, To: "granted",
		Detail: map[string]string{"block": entry.Block.String(), "issuer": hex.EncodeToString(key[:])},
	}); err != nil {
		return Grant{}, err
	}
	if err := dir.SetAllocations(ledger); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// accepts checks that a request is for this mesh, by name and by root.
func (v vault) accepts(req Request) error {
	if req.Mesh != v.mesh.Name {
		return fmt.Errorf("%w: it is for the mesh %q, this is the root of %q", ErrOtherMesh, req.Mesh, v.mesh.Name)
	}
	for _, root := range v.roots {
		if pin, err := pki.Pin(root); err == nil && pin == req.Pin {
			return nil
		}
	}
	return fmt.Errorf("%w: it trusts the root %s, this is %s", ErrOtherMesh, hex.EncodeToString(req.Pin[:8]), pinText(v.roots[0]))
}

func (v vault) refuseRevoked(req Request, issuer []byte) error {
	roll, err := v.roll()
	if err != nil {
		return err
	}
	if n, ok := roll.Revoked(req.Node); ok {
		return fmt.Errorf("%w: node %s, %s (%s); it has to join anew, with a new identity", pki.ErrRevoked, req.Node.Short(), n.At.Format(time.DateOnly), n.Reason)
	}
	if roll.IssuerRevoked(issuer) {
		return fmt.Errorf("%w: its issuing key; it has to join anew, with a new one", pki.ErrRevoked)
	}
	return nil
}

// give finds the block for a gateway and writes it into the ledger in memory.
func give(a *statedir.Allocations, m pki.Mesh, req Request, now time.Time) (statedir.Grant, error) {
	if by, taken := nameOf(*a, req); taken {
		return statedir.Grant{}, fmt.Errorf("%w: node %s has it", ErrNameTaken, by)
	}
	fresh := statedir.Grant{Node: req.Node, Name: req.Name, Since: now.UTC()}
	if i := slices.IndexFunc(a.Blocks, func(g statedir.Grant) bool { return g.Node == req.Node }); i >= 0 {
		// Also one that was reclaimed: nobody else has got it.
		fresh.Block, fresh.Since = a.Blocks[i].Block, a.Blocks[i].Since
		a.Blocks[i] = fresh
		return fresh, nil
	}
	if block, ok := unused(*a, m.Prefix); ok {
		fresh.Block = block
		a.Blocks = append(a.Blocks, fresh)
		return fresh, nil
	}
	first := -1 // the one that rests longest
	for i, g := range a.Blocks {
		if !g.Freed.IsZero() && now.Sub(g.Freed) >= Rest && (first < 0 || g.Freed.Before(a.Blocks[first].Freed)) {
			first = i
		}
	}
	if first < 0 {
		return statedir.Grant{}, full(*a)
	}
	fresh.Block = a.Blocks[first].Block
	a.Blocks[first] = fresh
	return fresh, nil
}

// nameOf finds another node that has the name of a request: a gateway, or a
// server in the ledger of the gateway that holds the root key.
func nameOf(a statedir.Allocations, req Request) (who string, taken bool) {
	for _, g := range a.Blocks {
		if g.Name == req.Name && g.Node != req.Node && g.Freed.IsZero() {
			return g.Node.Short(), true
		}
	}
	for _, e := range a.Addrs {
		if e.Name == req.Name && e.Node != req.Node && e.Freed.IsZero() {
			return e.Node.Short(), true
		}
	}
	return "", false
}

// unused is the lowest block that nobody ever had.
func unused(a statedir.Allocations, mesh netip.Prefix) (netip.Prefix, bool) {
	for n := range 1 << pki.BlockBits {
		block, ok := pki.Block(mesh, n)
		if ok && !slices.ContainsFunc(a.Blocks, func(g statedir.Grant) bool { return g.Block == block }) {
			return block, true
		}
	}
	return netip.Prefix{}, false
}

// full says who has the blocks, and what a person can do.
func full(a statedir.Allocations) error {
	var owners, resting []string
	for _, g := range a.Blocks {
		if g.Freed.IsZero() {
			owners = append(owners, g.Name)
			continue
		}
		resting = append(resting, fmt.Sprintf("%s (until %s)", g.Block, g.Freed.Add(Rest).UTC().Format(time.RFC3339)))
	}
	text := fmt.Sprintf("all %d are given", len(a.Blocks))
	if len(resting) > 0 {
		text += "; reclaimed ones rest: " + strings.Join(resting, ", ")
	}
	if len(owners) > 0 {
		text += "; if one of these gateways is lost for good, reclaim its block: " + strings.Join(owners, ", ")
	}
	return fmt.Errorf("%w: %s", ErrNoBlock, text)
}
