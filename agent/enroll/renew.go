package enroll

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// renew certifies a node of this gateway's ledger anew, with the claims that
// the ledger has. An expired certificate does not matter; a freed entry does.
func (s *Server) renew(q question, now time.Time) (ans answer, bad *Error) {
	id := pki.NodeID(q.Identity)
	if s.opts.Revoked != nil && s.opts.Revoked(id) {
		return ans, refuse(CodeRevoked, "the node was revoked")
	}
	var chain [][]byte
	err := s.opts.Dir.Update(func() error {
		ledger, err := s.opts.Dir.Allocations()
		if err != nil {
			return err
		}
		entry := find(ledger, id)
		if entry == nil {
			bad = refuse(CodeUnknownNode, "this gateway did not certify the node")
			return nil
		}
		if chain, bad = s.certify(entry, q, now); bad != nil {
			return nil
		}
		return s.opts.Dir.SetAllocations(ledger)
	})
	if err != nil {
		s.log.Error("renew certificate", "err", err)
		return ans, refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
	}
	if bad != nil {
		return ans, bad
	}
	s.log.Info("certificate renewed", "node", id)
	if s.opts.Introduce != nil {
		s.opts.Introduce(chain)
	}
	return answer{Code: CodeOK, Leaf: chain[0], Issuer: chain[1]}, nil
}

// find returns the entry of a server in use; it points into the ledger.
func find(a statedir.Allocations, id discovery.NodeID) *statedir.Allocation {
	for i := range a.Addrs {
		if e := &a.Addrs[i]; e.Node == id && e.Freed.IsZero() && e.Role == discovery.RoleServer {
			return e
		}
	}
	return nil
}

// RenewOptions of a renewal. Dir is needed, and Addrs on servers.
type RenewOptions struct {
	Dir   *statedir.Dir
	Addrs []string // of gateways, HOST:PORT; the one that issued must be among them
	// Dial makes the connection; nil dials TCP from the system. On the
	// netstack backend it is the overlay's.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	now func() time.Time // nil: time.Now
}

// RenewAt is when a certificate should be renewed: at half its life.
func RenewAt(notAfter time.Time) time.Time { return notAfter.Add(-pki.NodeLife / 2) }

// Renew gets a new certificate for this node and keeps it in the state
// directory; it returns the chain (node, issuer). A gateway certifies itself,
// and renews its issuing certificate first when that is past half its life and
// the root key is here. A server asks the gateways, one after the other.
func Renew(ctx context.Context, o RenewOptions) ([][]byte, error) {
	if o.now == nil {
		o.now = time.Now
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	n, err := o.Dir.Node()
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	var k keys
	if k.identity, err = o.Dir.IdentityKey(); err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	if k.wireGuard, err = o.Dir.WireGuardKey(); err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	var chain [][]byte
	if n.Role == discovery.RoleGateway {
		chain, err = renewSelf(o, n, k)
	} else {
		chain, err = renewFrom(ctx, o, n, k)
	}
	if err == nil {
		err = o.Dir.SetChain(chain)
	}
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	return chain, nil
}

func renewSelf(o RenewOptions, n statedir.Node, k keys) ([][]byte, error) {
	issuer, err := signer(o.Dir.Issuer, o.Dir.IssuerKey)
	if err != nil {
		return nil, err
	}
	block, err := pki.BlockOf(issuer.Cert())
	if err != nil {
		return nil, err
	}
	if issuer.NotAfter().Sub(o.now()) < pki.IssuerLife/2 {
		switch fresh, err := renewIssuer(o, n.Name, block); {
		case err == nil:
			issuer = fresh
		case !errors.Is(err, fs.ErrNotExist): // without the root key: until it ends
			return nil, err
		}
	}
	leaf, err := issueSelf(issuer, block, n.Name, n.Site, k, o.now())
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf, issuer.Cert()}, nil
}

// renewIssuer certifies the same issuing key and block again. The chains that
// nodes have keep ending at the old certificate, which stays good until its end.
func renewIssuer(o RenewOptions, name string, block netip.Prefix) (*pki.Signer, error) {
	root, err := rootSigner(o.Dir)
	if err != nil {
		return nil, err
	}
	key, err := o.Dir.IssuerKey()
	if err != nil {
		return nil, err
	}
	cert, err := pki.NewIssuer(root, key.Public().(ed25519.PublicKey), name, block, o.now())
	if err != nil {
		return nil, err
	}
	if err := o.Dir.SetIssuer(cert); err != nil {
		return nil, err
	}
	return pki.NewSigner(cert, key)
}

// renewFrom asks gateways until one answers with a certificate.
func renewFrom(ctx context.Context, o RenewOptions, n statedir.Node, k keys) ([][]byte, error) {
	if len(o.Addrs) == 0 {
		return nil, errors.New("no gateway is known")
	}
	roots, err := o.Dir.Roots()
	if err != nil {
		return nil, err
	}
	believe := func([][]byte) ([]byte, string, error) { return roots[0], n.Mesh, nil }
	var errs []error
	for _, addr := range o.Addrs {
		chain, err := renewAt(ctx, o, k, addr, believe)
		if err == nil {
			return chain, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func renewAt(ctx context.Context, o RenewOptions, k keys, addr string, believe trust) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	g, bad := reach(ctx, o.Dial, addr, believe, o.now)
	if bad != nil {
		return nil, bad
	}
	defer func() { _ = g.conn.Close() }() // the answer is here, or there is none
	wg, err := k.wireGuard.Public()
	if err != nil {
		return nil, err
	}
	ans, bad := g.ask(question{
		Version: protoVersion, Kind: kindRenew, Time: o.now().UTC(),
		Identity: k.identity.Public().(ed25519.PublicKey), WireGuard: wg[:],
	}, k, nil)
	if bad != nil {
		return nil, bad
	}
	roots, err := pki.NewRoots(g.root)
	if err != nil {
		return nil, err
	}
	chain := [][]byte{ans.Leaf, ans.Issuer}
	id, pub, err := pki.Verify(chain, roots, mustMesh(g.root), o.now())
	if err != nil && !errors.Is(err, pki.ErrNotYetValid) {
		return nil, err
	}
	if !pub.Equal(k.identity.Public()) || id.WireGuard != [32]byte(wg) {
		return nil, &Error{Code: CodeBadAnswer, Text: "the gateway's answer does not certify this host"}
	}
	return chain, nil
}

// mustMesh is the mesh of a root that was verified.
func mustMesh(root []byte) string {
	m, err := pki.MeshOf(root)
	if err != nil {
		return ""
	}
	return m.Name
}
