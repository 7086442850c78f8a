package enroll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const (
	// allGateways bounds a question that goes to one gateway after the other.
	allGateways = time.Minute
	maxGateways = 32
	maxHeard    = 16 // notices in one answer
)

// RenewOptions are what a member needs to ask gateways. Dir is needed, and
// Addrs on servers.
type RenewOptions struct {
	Dir *statedir.Dir
	// Addrs are of gateways, HOST:PORT, in the order to ask; an overlay address
	// of the gateway that this node's address is from is asked first.
	Addrs []string
	// Roll is what notices told. Nil: what the state directory says.
	Roll *pki.Roll
	// Hear is told notices that an answer carries, and lets Roll learn of them.
	// Nil: Roll and the state directory learn of them at once.
	Hear func(notice []byte)
	// NodeLife is the life of the certificate that a gateway gives itself; 0:
	// pki.NodeLife.
	NodeLife time.Duration
	// Advertise are the networks behind this node that it wants certified;
	// sorted. It gets those that its home gateway allows.
	Advertise []netip.Prefix
	// Dial makes the connection; nil dials TCP from the system. On the
	// netstack backend it is the overlay's.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	now func() time.Time // nil: time.Now
}

// asker is this node as it asks gateways.
type asker struct {
	dir   *statedir.Dir
	node  statedir.Node
	keys  keys
	chain [][]byte
	self  discovery.Identity
	trust trust
	line  line
	addrs []string
	heard func(notice []byte)
}

// member reads who this node is. Its certificate may be over.
func (o RenewOptions) member() (*asker, error) {
	m := &asker{dir: o.Dir, line: line{dial: o.Dial, now: o.now}, heard: o.Hear}
	if m.line.now == nil {
		m.line.now = time.Now
	}
	if m.line.dial == nil {
		m.line.dial = dialTCP
	}
	var err error
	if m.node, err = o.Dir.Node(); err != nil {
		return nil, err
	}
	if m.trust, err = trustOf(o.Dir, o.Roll); err != nil {
		return nil, err
	}
	if m.keys, err = readKeys(o.Dir, discovery.RoleServer); err != nil {
		return nil, err
	}
	if m.chain, err = o.Dir.Chain(); err != nil {
		return nil, err
	}
	m.line.believe = m.trust.believe
	// Who has been revoked asks all the same, and is told.
	m.self, _, err = pki.Verify(m.trust.roll.Refresh(m.chain), m.trust.roll.Roots(), m.node.Mesh, m.line.now())
	if m.self.ID == "" {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	m.addrs = homeFirst(o.Addrs, m.chain)
	return m, nil
}

// homeFirst puts the overlay address of the gateway first from whose block a
// node's address is.
func homeFirst(addrs []string, chain [][]byte) []string {
	addrs = slices.Clone(addrs[:min(len(addrs), maxGateways)])
	original := pki.Original(chain)
	if original == nil {
		return addrs
	}
	block, err := pki.BlockOf(original[1])
	if err != nil {
		return addrs
	}
	home := pki.FirstAddr(block)
	rank := func(addr string) int {
		if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Addr() == home {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(addrs, func(a, b string) int { return rank(a) - rank(b) })
	return addrs
}

// question is one by this node.
func (m *asker) question(kind string) question {
	q := question{Version: protoVersion, Kind: kind, Time: m.line.now().UTC(), Chain: m.chain[:min(len(m.chain), maxChain)]}
	q.Identity, q.WireGuard, _, _ = m.keys.public()
	return q
}

// hear takes the notices of an answer: a member that was away may not trust yet
// what the answer is signed with.
func (m *asker) hear(notices [][]byte) {
	for _, n := range notices[:min(len(notices), maxHeard)] {
		if m.heard != nil {
			m.heard(n)
			continue
		}
		// One that is not believed, or cannot be kept, will be told again.
		if _, news, err := m.trust.roll.Add(n, m.line.now()); err == nil && news {
			_ = errors.Join(m.dir.SetNotices(m.trust.roll.Notices()), m.dir.SetRoots(m.trust.roll.Roots().Certs()))
		}
	}
}

// each asks one gateway after the other until one answers with what f takes.
// The errors of those that said something come first.
func (m *asker) each(ctx context.Context, f func(*gateway) *Error) error {
	if len(m.addrs) == 0 {
		return errors.New("no gateway is known")
	}
	var said, silent []error
	for _, addr := range m.addrs {
		bad := m.one(ctx, addr, f)
		switch {
		case bad == nil:
			return nil
		case bad.Code == CodeUnreachable:
			silent = append(silent, bad)
		default:
			said = append(said, fmt.Errorf("%s: %w", addr, bad))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(said, silent...)...)
}

func (m *asker) one(ctx context.Context, addr string, f func(*gateway) *Error) *Error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	g, bad := m.line.reach(ctx, addr)
	if bad != nil {
		return bad
	}
	defer func() { _ = g.conn.Close() }() // the answer is here, or there is none
	if g.id.ID == m.self.ID {
		return &Error{Code: CodeFakeGateway, Text: "this is the node itself", Next: "name other gateways"}
	}
	return f(g)
}
