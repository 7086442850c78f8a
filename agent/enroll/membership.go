package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// membership is what will be written.
type membership struct {
	chain     [][]byte // without root
	roots     [][]byte // trusted, the current one first
	notices   [][]byte
	seeds     [][]byte
	renewer   []byte // gateways
	node      statedir.Node
	block     netip.Prefix // gateways
	id        discovery.Identity
	endpoints []discovery.Endpoint
}

// accept checks that the answer certifies us, as what we asked to be. A
// gateway certifies itself first. The roots to trust are the pinned one and
// what notices make of it: they are signed, the gateway is not believed.
func (j *joining) accept(g *gateway, ans answer, mesh pki.Mesh) (membership, *Error) {
	m := membership{seeds: ans.Seeds, endpoints: []discovery.Endpoint{{Node: g.id.ID, Addr: g.addr}}}
	refusal := func(err error) (membership, *Error) {
		return m, &Error{Code: CodeBadAnswer, Text: "the gateway's answer does not certify this host", Err: err, Next: "look at the gateway's log; " + newToken}
	}
	roots, err := pki.NewRoots(j.root)
	if err != nil {
		return refusal(err)
	}
	t := trust{mesh: mesh.Name, roll: pki.NewRoll(mesh.Name, roots)}
	for _, n := range ans.Notices {
		// One that is not believed is left out: the mesh will tell it again.
		_, _, _ = t.roll.Add(n, j.now())
	}
	m.notices, m.roots = t.roll.Notices(), t.roll.Roots().Certs()
	m.chain = ans.Chain
	if j.Role == discovery.RoleGateway {
		if m.chain, m.block, err = j.certifySelf(t, ans); err != nil {
			return refusal(err)
		}
		m.renewer = ans.Renewer
	}
	// Clocks were compared; a few seconds at either end of the certificate's
	// life are no reason to throw it away.
	id, pub, err := t.roll.Verify(m.chain, j.now())
	if err != nil && !errors.Is(err, pki.ErrNotYetValid) {
		return refusal(err)
	}
	_, wg, _, err := j.keys.public()
	if err != nil {
		return refusal(err)
	}
	if !pub.Equal(j.keys.identity.Public()) || !bytes.Equal(id.WireGuard[:], wg) ||
		id.Name != j.Name || j.Site != "" && id.Site != j.Site || id.Role != j.Role {
		return refusal(fmt.Errorf("it certifies %s/%s/%s", id.Site, id.Role, id.Name))
	}
	m.chain = slices.Clone(m.chain)
	m.id = id
	m.node = statedir.Node{
		Mesh: mesh.Name, Prefix: mesh.Prefix, Domain: mesh.Domain, ListenPort: j.ListenPort,
		Endpoints: j.Endpoints, Site: id.Site, Role: id.Role, Name: id.Name,
	}
	return m, nil
}

// certifySelf makes a new gateway's own certificate with its new issuer.
func (j *joining) certifySelf(t trust, ans answer) ([][]byte, netip.Prefix, error) {
	block, err := pki.BlockOf(ans.Issuer)
	if err != nil {
		return nil, block, err
	}
	_, _, key, err := j.keys.public()
	if err != nil {
		return nil, block, err
	}
	g := rootca.Grant{Node: j.keys.id(), Name: j.Name, Block: block, Issuer: ans.Issuer, Renewer: ans.Renewer}
	if err := checkGrant(t, g, g.Node, j.Name, key); err != nil {
		return nil, block, err
	}
	site := j.Site
	if site == "" {
		site = ans.Site // of the rule
	}
	s, err := pki.NewSigner(ans.Issuer, j.keys.issuer)
	if err != nil {
		return nil, block, err
	}
	leaf, err := issueSelf(s, block, j.Name, site, j.keys, 0, j.now())
	return [][]byte{leaf, ans.Issuer}, block, err
}

// write fills the state directory; the node file comes last.
func (j *joining) write(m membership) error {
	steps := []func() error{
		func() error { return j.dir.SetRoots(m.roots) },
		func() error { return j.dir.SetNotices(m.notices) },
		func() error { return j.dir.SetChain(m.chain) },
		func() error { return j.dir.SetPeers(m.seeds) },
		func() error { return j.dir.SetEndpoints(m.endpoints) },
	}
	if j.Role == discovery.RoleGateway {
		steps = append(steps,
			func() error { return j.dir.SetIssuer(m.chain[1]) },
			func() error { return j.dir.SetRenewer(m.renewer) },
			func() error { return j.dir.SetAllocations(newLedger(m.id, m.block, j.now())) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if err := j.dir.Commit(m.node); err != nil {
		return err
	}
	// The host is a member; what its own journal says of it comes after that.
	_ = note(j.dir, history.Event{Kind: eventJoined, Subject: subject(m.id.ID, m.id.Name), Detail: map[string]string{
		"mesh": m.node.Mesh, "site": m.id.Site, "role": string(m.id.Role), "address": m.id.Addr.String(),
	}})
	return nil
}
