package enroll

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"slices"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// redeem spends one use of a token. Everything that reads and then writes
// happens under one lock, here and in other processes.
//
// The chain is the new node's, to be introduced; nil for gateways, which
// certify themselves.
func (s *Server) redeem(req request, q question, exported []byte, now time.Time) (ans answer, chain [][]byte, bad *Error) {
	// Strangers are turned away before they can hold up the lock.
	if _, bad := s.token(req, q, exported); bad != nil {
		return answer{}, nil, bad
	}
	err := s.opts.Dir.Update(func() error {
		tok, b := s.token(req, q, exported)
		if b == nil {
			ans, chain, b = s.spend(tok, q, now)
		}
		bad = b
		return nil
	})
	if err != nil {
		s.log.Error("redeem token", "err", err)
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot lock its ledger")
	}
	return ans, chain, bad
}

// token finds the token and checks the proof. One answer for "never heard of
// it" and "wrong proof": strangers learn nothing about ids.
func (s *Server) token(req request, q question, exported []byte) (statedir.Token, *Error) {
	tok, err := s.opts.Dir.Token(q.Token)
	unknown := refuse(CodeUnknownToken, "this gateway does not know the token")
	if errors.Is(err, fs.ErrNotExist) {
		return tok, unknown
	}
	if err != nil {
		s.log.Error("read token", "err", err)
		return tok, refuse(CodeInternal, "the gateway cannot read the token")
	}
	if !proven(tok.Public, proofToken, exported, req.Question, req.TokenProof) {
		return tok, unknown
	}
	return tok, nil
}

// spend holds the rules of a token whose holder is proven.
func (s *Server) spend(tok statedir.Token, q question, now time.Time) (answer, [][]byte, *Error) {
	id := pki.NodeID(q.Identity)
	if tok.Revoked {
		return answer{}, nil, refuse(CodeRevoked, "the token was revoked")
	}
	for _, r := range tok.Redeemed {
		if r.Node == id {
			return s.repeat(r, q, now)
		}
	}
	switch {
	case now.After(tok.Expires):
		return answer{}, nil, refuse(CodeExpired, "the token expired at %s", tok.Expires.UTC().Format(time.RFC3339))
	case len(tok.Redeemed) >= tok.Uses:
		return answer{}, nil, refuse(CodeUsedUp, "the token was used already (%d of %d)", len(tok.Redeemed), tok.Uses)
	case q.Site != "" && q.Site != tok.Site:
		return answer{}, nil, refuse(CodeOtherSite, "the token is for site %q, not %q", tok.Site, q.Site)
	case q.Role != "" && q.Role != tok.Role:
		return answer{}, nil, refuse(CodeOtherRole, "the token is for role %q, not %q", tok.Role, q.Role)
	case (q.Issuer != nil) != (tok.Role == discovery.RoleGateway):
		return answer{}, nil, refuse(CodeOtherRole, "the token is for role %q", tok.Role)
	case s.opts.NameTaken != nil && s.opts.NameTaken(q.Name, id):
		return answer{}, nil, refuse(CodeNameTaken, "another node has the name %q", q.Name)
	}
	ans, chain, bad := s.grant(tok, q, id, now)
	if bad != nil {
		return answer{}, nil, bad
	}
	use := statedir.Redemption{Node: id, Name: q.Name, At: now.UTC(), Leaf: ans.Leaf}
	if tok.Role == discovery.RoleGateway {
		use.Issuer = ans.Issuer
	}
	tok.Redeemed = append(tok.Redeemed, use)
	if err := s.opts.Dir.SetToken(tok); err != nil {
		s.log.Error("keep use of token", "err", err)
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot keep that the token was used")
	}
	s.log.Info("node joined", "node", q.Name, "site", tok.Site, "role", tok.Role, "token", tok.ID, "uses_left", tok.Uses-len(tok.Redeemed))
	return ans, chain, nil
}

// repeat answers a node that redeemed this token before, as it did then: its
// answer was lost. Other claims under the same key are a second use.
func (s *Server) repeat(r statedir.Redemption, q question, now time.Time) (answer, [][]byte, *Error) {
	roots, err := s.opts.Dir.Roots()
	if err != nil {
		s.log.Error("read roots", "err", err)
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	if r.Issuer != nil {
		return answer{Name: r.Name, Code: CodeOK, Issuer: r.Issuer}, nil, s.same(r, q)
	}
	issuer, err := s.opts.Dir.Issuer()
	if err != nil {
		s.log.Error("read issuer", "err", err)
		return answer{}, nil, refuse(CodeNoIssuer, "this gateway has no issuing certificate")
	}
	chain := [][]byte{r.Leaf, issuer, roots[0]}
	mesh, err := pki.MeshOf(roots[0])
	if err != nil {
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	pinned, err := pki.NewRoots(roots...)
	if err != nil {
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	id, _, err := pki.Verify(chain, pinned, mesh.Name, now)
	if err != nil || id.WireGuard != [32]byte(q.WireGuard) {
		return answer{}, nil, refuse(CodeUsedUp, "the token was used already, with other keys or long ago")
	}
	return answer{Name: r.Name, Code: CodeOK, Leaf: r.Leaf, Issuer: issuer}, chain, s.same(r, q)
}

func (s *Server) same(r statedir.Redemption, q question) *Error {
	if r.Name != q.Name || (r.Issuer != nil) != (q.Issuer != nil) {
		return refuse(CodeUsedUp, "the token was used already, by this node under the name %q", r.Name)
	}
	return nil
}

// grant gives an address or a block, and certifies it. The ledger is on disk
// when it returns.
func (s *Server) grant(tok statedir.Token, q question, id discovery.NodeID, now time.Time) (answer, [][]byte, *Error) {
	ledger, err := s.opts.Dir.Allocations()
	if err != nil {
		s.log.Error("read ledger", "err", err)
		return answer{}, nil, refuse(CodeNoIssuer, "this gateway cannot read its ledger of addresses")
	}
	if nameTaken(ledger, q.Name, id) {
		return answer{}, nil, refuse(CodeNameTaken, "another node has the name %q", q.Name)
	}
	if tok.Role == discovery.RoleGateway {
		return s.grantBlock(ledger, q, id, now)
	}
	return s.grantAddr(ledger, tok, q, id, now)
}

func (s *Server) grantAddr(ledger statedir.Allocations, tok statedir.Token, q question, id discovery.NodeID, now time.Time) (answer, [][]byte, *Error) {
	entry, ok := take(&ledger, id, now)
	if !ok {
		return answer{}, nil, refuse(CodeFull, "this gateway's block %s is used up", ledger.Block)
	}
	entry.Name, entry.Site, entry.Role = q.Name, tok.Site, tok.Role
	chain, bad := s.certify(entry, q, now)
	if bad != nil {
		return answer{}, nil, bad
	}
	if err := s.opts.Dir.SetAllocations(ledger); err != nil {
		s.log.Error("keep ledger", "err", err)
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot keep its ledger of addresses")
	}
	return answer{Name: q.Name, Code: CodeOK, Leaf: chain[0], Issuer: chain[1]}, chain, nil
}

// certify issues the certificate of a ledger entry and notes its end there.
func (s *Server) certify(entry *statedir.Allocation, q question, now time.Time) ([][]byte, *Error) {
	issuer, err := signer(s.opts.Dir.Issuer, s.opts.Dir.IssuerKey)
	if err != nil {
		s.log.Error("load issuing certificate", "err", err)
		return nil, refuse(CodeNoIssuer, "this gateway has no usable issuing certificate")
	}
	roots, err := s.opts.Dir.Roots()
	if err != nil {
		s.log.Error("read roots", "err", err)
		return nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	leaf, err := pki.IssueNode(issuer, pki.Claims{
		Name: entry.Name, Site: entry.Site, Role: entry.Role, Addr: entry.Addr,
		Identity: q.Identity, WireGuard: [32]byte(q.WireGuard),
	}, now)
	if err != nil {
		s.log.Error("issue certificate", "err", err)
		return nil, refuse(CodeNoIssuer, "this gateway cannot issue certificates now")
	}
	entry.NotAfter = now.Add(pki.NodeLife).UTC()
	return [][]byte{leaf, issuer.Cert(), roots[0]}, nil
}

func (s *Server) grantBlock(ledger statedir.Allocations, q question, id discovery.NodeID, now time.Time) (answer, [][]byte, *Error) {
	root, err := rootSigner(s.opts.Dir)
	if err != nil {
		s.log.Warn("load root key", "err", err)
		return answer{}, nil, refuse(CodeNoRoot, "this gateway does not hold the root key, which a new gateway needs")
	}
	mesh, err := pki.MeshOf(root.Cert())
	if err != nil {
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot read its root")
	}
	i := slices.IndexFunc(ledger.Blocks, func(g statedir.Grant) bool { return g.Node == id })
	if i < 0 {
		// Blocks are never given twice: a lost gateway's may still be in use.
		block, ok := pki.Block(mesh.Prefix, len(ledger.Blocks))
		if !ok {
			return answer{}, nil, refuse(CodeFull, "all %d address blocks of the mesh are given away", len(ledger.Blocks))
		}
		ledger.Blocks = append(ledger.Blocks, statedir.Grant{Block: block, Node: id, Since: now.UTC()})
		i = len(ledger.Blocks) - 1
	}
	ledger.Blocks[i].Name = q.Name
	cert, err := pki.NewIssuer(root, ed25519.PublicKey(q.Issuer), q.Name, ledger.Blocks[i].Block, now)
	if err != nil {
		s.log.Error("issue issuing certificate", "err", err)
		return answer{}, nil, refuse(CodeNoRoot, "this gateway cannot certify gateways now")
	}
	if err := s.opts.Dir.SetAllocations(ledger); err != nil {
		s.log.Error("keep ledger", "err", err)
		return answer{}, nil, refuse(CodeInternal, "the gateway cannot keep its ledger of blocks")
	}
	return answer{Name: q.Name, Code: CodeOK, Issuer: cert}, nil, nil
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

func rootSigner(d *statedir.Dir) (*pki.Signer, error) {
	return signer(func() ([]byte, error) {
		roots, err := d.Roots()
		if err != nil {
			return nil, err
		}
		return roots[0], nil
	}, d.RootKey)
}
