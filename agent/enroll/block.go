package enroll

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io/fs"
	"slices"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// grantBlock gives a joining gateway its block and certificates: the root
// key's, if that is here, or else what a person brought from the root key.
func (s *Server) grantBlock(t trust, ledger statedir.Allocations, earlier []discovery.Identity, on terms, wait *statedir.Pending, c *call) (outcome, *Error) {
	g, bad := s.grantOf(t, wait, c)
	if bad != nil {
		return outcome{}, bad
	}
	if g == nil {
		if _, err := s.opts.Dir.RootKey(); errors.Is(err, fs.ErrNotExist) {
			return s.hold(on, wait, c, "the root key's grant")
		}
	}
	if len(earlier) > 0 {
		if bad := s.supersede(&ledger, earlier, c); bad != nil {
			return outcome{}, bad
		}
	}
	if g == nil {
		if g, bad = s.signGateway(t, c.Name, c); bad != nil {
			return outcome{succeeded: ledger.Succeeded}, bad
		}
	}
	return outcome{
		ans: answer{Code: CodeOK, Site: on.site, Issuer: g.Issuer, Renewer: g.Renewer}, succeeded: ledger.Succeeded,
		events: []history.Event{{Kind: eventIssued, Subject: subject(c.id, c.Name), Detail: map[string]string{
			"site": on.site, "role": string(on.role), "block": g.Block.String(),
		}}},
	}, nil
}

// supersede takes back what earlier gateways of the name have. Their blocks
// rest, where the root key is; elsewhere that is done where the root key is.
func (s *Server) supersede(ledger *statedir.Allocations, earlier []discovery.Identity, c *call) *Error {
	succeed(ledger, earlier, c.id, c.now)
	err := s.opts.Dir.SetAllocations(*ledger)
	_, away := s.opts.Dir.RootKey()
	for _, id := range earlier {
		has := away == nil && slices.ContainsFunc(ledger.Blocks, func(g statedir.Grant) bool { return g.Node == id.ID && g.Freed.IsZero() })
		if err == nil && has {
			_, err = rootca.Reclaim(s.opts.Dir, string(id.ID), c.now)
		}
	}
	if err != nil {
		s.log.Error("take back earlier gateway's block", "node", c.Name, "err", err)
		return refuse(CodeInternal, "the gateway cannot take back the earlier gateway's block")
	}
	return nil
}

// grantOf is what a person brought for a waiting gateway; nil: nothing yet.
func (s *Server) grantOf(t trust, wait *statedir.Pending, c *call) (*rootca.Grant, *Error) {
	if wait == nil || wait.Grant == "" {
		return nil, nil
	}
	g, err := rootca.ParseGrant(wait.Grant)
	if err == nil {
		err = checkGrant(t, g, c.id, c.Name, c.Issuer)
	}
	if err != nil {
		s.log.Error("read the root key's grant", "node", c.Name, "err", err)
		return nil, refuse(CodeNoRoot, "the root key's grant for this gateway is not good any more")
	}
	return &g, nil
}

// signGateway lets the root key certify a gateway's issuing key. The ledger's
// lock is held; the ledger is on disk when it returns.
func (s *Server) signGateway(t trust, name string, c *call) (*rootca.Grant, *Error) {
	pin, err := pki.Pin(t.roll.Roots().Certs()[0])
	if err == nil {
		var g rootca.Grant
		g, err = rootca.Sign(s.opts.Dir, rootca.Request{
			Mesh: t.mesh, Name: name, Node: c.id, Issuer: ed25519.PublicKey(c.Issuer), Pin: pin,
		}, c.now)
		if err == nil {
			return &g, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse(CodeNoRoot, "this gateway does not hold the root key")
	case errors.Is(err, rootca.ErrNoBlock):
		return nil, refuse(CodeFull, "all address blocks of the mesh are given away")
	case errors.Is(err, rootca.ErrNameTaken):
		return nil, refuse(CodeNameTaken, "another node has the name %q", name)
	case errors.Is(err, pki.ErrRevoked):
		return nil, refuse(CodeRevokedNode, "the gateway or its issuing key was revoked")
	}
	s.log.Error("certify gateway", "node", name, "err", err)
	return nil, refuse(CodeNoRoot, "this gateway cannot certify gateways now")
}

// sameKey reports whether a certificate (DER) is for a key.
func sameKey(cert, key []byte) bool {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return false
	}
	pub, ok := c.PublicKey.(ed25519.PublicKey)
	return ok && bytes.Equal(pub, key)
}

// signer loads a CA certificate with its key.
func signer(cert func() ([]byte, error), key func() (ed25519.PrivateKey, error)) (*pki.Signer, error) {
	c, err := cert()
	if err != nil {
		return nil, err
	}
	k, err := key()
	if err != nil {
		return nil, err
	}
	return pki.NewSigner(c, k)
}
