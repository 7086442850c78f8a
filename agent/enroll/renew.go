package enroll

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// Renew gets a new certificate for this node and keeps it in the state
// directory; it returns the chain, without root. A gateway certifies itself,
// after its issuing certificate was renewed if that is past half its life. A
// server asks the gateways, the one that its address is from first: any of them
// can renew it.
func Renew(ctx context.Context, o RenewOptions) ([][]byte, error) {
	chain, err := renew(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	return chain, nil
}

func renew(ctx context.Context, o RenewOptions) ([][]byte, error) {
	m, err := o.member()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, allGateways)
	defer cancel()
	var chain [][]byte
	if m.node.Role == discovery.RoleGateway {
		chain, err = m.renewSelf(ctx, o.NodeLife)
	} else {
		err = m.each(ctx, func(g *gateway) *Error {
			q := m.question(kindRenew)
			q.Subnets = o.Advertise
			ans, bad := g.ask(q, m.keys, nil)
			if bad == nil {
				m.hear(ans.Notices)
				chain, bad = m.take(ans, o.Advertise)
			}
			return bad
		})
	}
	if err != nil {
		return nil, err
	}
	if err := o.Dir.SetChain(chain); err != nil {
		return nil, err
	}
	e := history.Event{Kind: eventRenewed, Subject: subject(m.self.ID, m.self.Name), Actor: "agent " + m.self.Name, Reason: "own"}
	if _, to, err := pki.Lifetime(chain[0]); err == nil {
		e.Detail = map[string]string{"until": to.UTC().Format(time.RFC3339)}
	}
	_ = history.Append(o.Dir.Path(), e) // the gateway has it too
	return chain, nil
}

// take checks that the answer certifies this node as what it was before, with
// subnets that it asked for or had.
func (m *asker) take(ans answer, asked []netip.Prefix) ([][]byte, *Error) {
	refusal := func(err error) ([][]byte, *Error) {
		return nil, &Error{Code: CodeBadAnswer, Text: "the gateway's answer does not certify this host", Err: err, Next: "look at the gateway's log"}
	}
	id, pub, err := m.trust.roll.Verify(ans.Chain, m.line.now())
	if err != nil && !errors.Is(err, pki.ErrNotYetValid) { // clocks were compared: seconds
		return refusal(err)
	}
	wg, err := m.keys.wireGuard.Public()
	if err != nil {
		return refusal(err)
	}
	if !pub.Equal(m.keys.identity.Public()) || id.WireGuard != wg ||
		id.Name != m.self.Name || id.Site != m.self.Site || id.Role != m.self.Role || id.Addr != m.self.Addr {
		return refusal(fmt.Errorf("it certifies %s/%s/%s with %s", id.Site, id.Role, id.Name, id.Addr))
	}
	for _, p := range id.Subnets {
		if !slices.Contains(asked, p) && !slices.Contains(m.self.Subnets, p) {
			return refusal(fmt.Errorf("it certifies the subnet %s, which was not asked for", p))
		}
	}
	return ans.Chain, nil
}
