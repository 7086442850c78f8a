package enroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// renewSelf makes a gateway's own certificate anew. Behind it stand its issuer
// and, while another root is trusted too, the issuer under that one.
func (m *asker) renewSelf(ctx context.Context, life time.Duration) ([][]byte, error) {
	if err := recertified(m.dir, m.trust.roll); err != nil {
		return nil, err
	}
	chain, err := m.certifySelf(life)
	past, err2 := halfOver(m.dir, m.line.now())
	if err2 != nil {
		return nil, err2
	}
	if past {
		old := m.chain
		if err == nil {
			m.chain = chain // who asks has a certificate that holds
		}
		// Until it ends the old issuing certificate serves: see RootRequests.
		ended := m.renewIssuer(ctx)
		m.chain = old
		if ended == nil {
			chain, err = m.certifySelf(life)
		} else if err != nil {
			err = errors.Join(err, ended)
		}
	}
	return chain, err
}

// certifySelf makes a gateway's certificate with the issuing certificate on disk.
func (m *asker) certifySelf(life time.Duration) ([][]byte, error) {
	issuer, err := signer(m.dir.Issuer, m.dir.IssuerKey)
	if err != nil {
		return nil, err
	}
	block, err := pki.BlockOf(issuer.Cert())
	if err != nil {
		return nil, err
	}
	leaf, err := issueSelf(issuer, block, m.node.Name, m.node.Site, m.keys, life, m.line.now())
	if err != nil {
		return nil, err
	}
	return withOlder([][]byte{leaf, issuer.Cert()}, m.chain[1:], m.trust, m.line.now()), nil
}

// halfOver reports whether a gateway's issuing or renewal certificate is past
// half its life, or missing.
func halfOver(dir *statedir.Dir, now time.Time) (bool, error) {
	issuer, err := dir.Issuer()
	if err != nil {
		return false, err
	}
	renewer, err := dir.Renewer()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // of an older version
	}
	if err != nil {
		return false, err
	}
	for _, cert := range [][]byte{issuer, renewer} {
		at, err := pki.RenewAt(cert)
		if err != nil {
			return false, err
		}
		if now.After(at) {
			return true, nil
		}
	}
	return false, nil
}

// renewIssuer gets the same issuing key certified again for the same block: by
// the root key, if it is here, or through the gateway where it is. The chains
// that nodes have keep ending at the old certificate, which stays good until
// its end.
func (m *asker) renewIssuer(ctx context.Context) error {
	req, err := ownRequest(m.dir, m.trust, m.self.ID, m.node.Name)
	if err != nil {
		return err
	}
	if _, err := m.dir.RootKey(); err == nil {
		return m.dir.Update(func() error {
			g, err := rootca.Sign(m.dir, req, m.line.now())
			if err != nil {
				return err
			}
			return installOwn(m.dir, m.trust, g)
		})
	}
	if m.keys.issuer, err = m.dir.IssuerKey(); err != nil {
		return err
	}
	return m.each(ctx, func(g *gateway) *Error {
		q := m.question(kindCertify)
		q.Issuer = req.Issuer
		ans, bad := g.ask(q, m.keys, nil)
		if bad != nil {
			return bad
		}
		m.hear(ans.Notices)
		block, err := pki.BlockOf(ans.Issuer)
		if err == nil {
			err = m.dir.Update(func() error {
				return installOwn(m.dir, m.trust, rootca.Grant{
					Node: m.self.ID, Name: m.node.Name, Block: block, Issuer: ans.Issuer, Renewer: ans.Renewer,
				})
			})
		}
		if err != nil {
			return &Error{Code: CodeBadAnswer, Text: "the gateway's answer does not certify this gateway", Err: err, Next: "look at the gateway's log"}
		}
		return nil
	})
}

// issueSelf makes a gateway's node certificate with its own issuer.
func issueSelf(issuer *pki.Signer, block netip.Prefix, name, site string, k keys, life time.Duration, now time.Time) ([]byte, error) {
	identity, wireGuard, _, err := k.public()
	if err != nil {
		return nil, fmt.Errorf("certify own keys: %w", err)
	}
	return pki.IssueNode(issuer, pki.Claims{
		Name: name, Site: site, Role: discovery.RoleGateway, Addr: pki.FirstAddr(block),
		Identity: identity, WireGuard: [32]byte(wireGuard), Life: life,
	}, now)
}
