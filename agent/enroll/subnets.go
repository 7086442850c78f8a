package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// ErrNotHere means that no node of this name or id has its address from this
// gateway.
var ErrNotHere = errors.New("no such node in this gateway's ledger")

// AllowSubnets says, at the gateway that a server's address is from, which
// networks that server may advertise from now on; none: no longer any. who is
// its name or id; actor is who says so. The server's agent gets them into its
// certificate by itself, as far as its configuration advertises them; what its
// certificate has now stays good until the next one.
func AllowSubnets(stateDir, who string, list []netip.Prefix, actor string) (statedir.Allocation, error) {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return statedir.Allocation{}, err
	}
	var entry statedir.Allocation
	err = dir.Update(func() error {
		n, err := dir.Node()
		if err != nil {
			return err
		}
		if list, err = checkSubnets(n.Prefix, list); err != nil {
			return err
		}
		ledger, err := dir.Allocations()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ledger.Addrs, func(e statedir.Allocation) bool {
			return e.Freed.IsZero() && (e.Name == who || string(e.Node) == who)
		})
		switch {
		case i < 0:
			return fmt.Errorf("%w; run this on the gateway that it joined through", ErrNotHere)
		case ledger.Addrs[i].Role != discovery.RoleServer:
			return errors.New("a gateway advertises no subnets")
		}
		before := ledger.Addrs[i].Subnets
		ledger.Addrs[i].Subnets = list
		entry = ledger.Addrs[i]
		if slices.Equal(before, list) {
			return nil
		}
		if err := dir.SetAllocations(ledger); err != nil {
			return err
		}
		return note(dir, history.Event{
			Kind: eventSubnets, Subject: subject(entry.Node, entry.Name), From: prefixText(before), To: prefixText(list), Actor: actor,
		})
	})
	if err != nil {
		return entry, fmt.Errorf("allow subnets of %s: %w", printable(who), err)
	}
	return entry, nil
}

// checkSubnets sorts the networks that a person wrote, and checks them.
func checkSubnets(mesh netip.Prefix, list []netip.Prefix) ([]netip.Prefix, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, tunnel.ComparePrefix)
	list = slices.Compact(list)
	return list, pki.CheckSubnets(mesh, list)
}

// granted are the networks that are asked for and allowed, whole.
func granted(asked, allowed []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range asked {
		if covered(p, allowed) {
			out = append(out, p)
		}
	}
	return out
}

// covered reports whether one of the allowed networks holds all of p.
func covered(p netip.Prefix, allowed []netip.Prefix) bool {
	return slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return a.Bits() <= p.Bits() && a.Contains(p.Addr()) })
}

func prefixText(list []netip.Prefix) string {
	words := make([]string, 0, len(list))
	for _, p := range list {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}
