package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// membership is what will be written.
type membership struct {
	chain     [][]byte // node, issuer
	root      []byte
	seeds     [][]byte
	node      statedir.Node
	block     netip.Prefix // gateways
	id        discovery.Identity
	endpoints []discovery.Endpoint
}

// accept checks that the answer certifies us, as what we asked to be. A
// gateway certifies itself first.
func (j *joining) accept(g *gateway, ans answer, mesh pki.Mesh) (membership, *Error) {
	m := membership{root: g.root, seeds: ans.Seeds, endpoints: []discovery.Endpoint{{Node: g.id.ID, Addr: g.addr}}}
	refusal := func(err error) (membership, *Error) {
		return m, &Error{Code: CodeBadAnswer, Text: "the gateway's answer does not certify this host", Err: err, Next: "look at the gateway's log; " + newToken}
	}
	leaf := ans.Leaf
	if j.Token.Role == discovery.RoleGateway {
		var err error
		if leaf, m.block, err = j.certifySelf(ans.Issuer); err != nil {
			return refusal(err)
		}
	}
	m.chain = [][]byte{leaf, ans.Issuer}
	roots, err := pki.NewRoots(g.root)
	if err != nil {
		return refusal(err)
	}
	// Clocks were compared; a few seconds at either end of the certificate's
	// life are no reason to throw it away.
	id, pub, err := pki.Verify(m.chain, roots, mesh.Name, j.now())
	if err != nil && !errors.Is(err, pki.ErrNotYetValid) {
		return refusal(err)
	}
	wg, err := j.keys.wireGuard.Public()
	if err != nil {
		return refusal(err)
	}
	if !pub.Equal(j.keys.identity.Public()) || !bytes.Equal(id.WireGuard[:], wg[:]) ||
		id.Name != j.Name || id.Site != j.Token.Site || id.Role != j.Token.Role {
		return refusal(fmt.Errorf("it certifies %s/%s/%s", id.Site, id.Role, id.Name))
	}
	m.id = id
	m.node = statedir.Node{
		Mesh: mesh.Name, Prefix: mesh.Prefix, Domain: mesh.Domain, ListenPort: j.ListenPort,
		Endpoints: j.Endpoints, Site: id.Site, Role: id.Role, Name: id.Name,
	}
	return m, nil
}

// certifySelf makes a new gateway's own certificate with its new issuer.
func (j *joining) certifySelf(issuer []byte) ([]byte, netip.Prefix, error) {
	s, err := pki.NewSigner(issuer, j.keys.issuer)
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	block, err := pki.BlockOf(issuer)
	if err != nil {
		return nil, block, err
	}
	leaf, err := issueSelf(s, block, j.Name, j.Token.Site, j.keys, j.now())
	return leaf, block, err
}

// write fills the state directory; the node file comes last.
func (j *joining) write(m membership) error {
	steps := []func() error{
		func() error { return j.dir.SetRoots([][]byte{m.root}) },
		func() error { return j.dir.SetChain(m.chain) },
		func() error { return j.dir.SetPeers(m.seeds) },
		func() error { return j.dir.SetEndpoints(m.endpoints) },
	}
	if j.Token.Role == discovery.RoleGateway {
		steps = append(steps,
			func() error { return j.dir.SetIssuer(m.chain[1]) },
			func() error { return j.dir.SetAllocations(newLedger(m.id, m.block, j.now())) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return j.dir.Commit(m.node)
}
