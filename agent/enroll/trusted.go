package enroll

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// trust is whom to believe: the mesh, and what notices told of it.
type trust struct {
	mesh string
	roll *pki.Roll
}

// trustOf reads it from a state directory; a roll that is there already counts
// for more. Notices that are not believed any more are left out.
func trustOf(dir *statedir.Dir, roll *pki.Roll) (trust, error) {
	n, err := dir.Node()
	if err != nil {
		return trust{}, err
	}
	if roll != nil {
		return trust{n.Mesh, roll}, nil
	}
	ders, err := dir.Roots()
	if err != nil {
		return trust{}, err
	}
	roots, err := pki.NewRoots(ders...)
	if err != nil {
		return trust{}, err
	}
	roll = pki.NewRoll(n.Mesh, roots)
	notices, err := dir.Notices()
	if errors.Is(err, fs.ErrNotExist) {
		return trust{n.Mesh, roll}, nil // nothing was ever told
	}
	if err != nil {
		return trust{}, fmt.Errorf("read notices: %w", err)
	}
	_ = roll.Restore(notices)
	return trust{n.Mesh, roll}, nil
}

// outcast refuses nodes that are out or set apart.
func (t trust) outcast(id discovery.NodeID) *Error {
	if n, ok := t.roll.Revoked(id); ok {
		return refuse(CodeRevokedNode, "this node was revoked %s by %s (%s)", n.At.UTC().Format(time.RFC3339), n.By, n.Reason)
	}
	if n, ok := t.roll.Quarantined(id); ok {
		return refuse(CodeQuarantined, "this node is in quarantine since %s by %s (%s)", n.At.UTC().Format(time.RFC3339), n.By, n.Reason)
	}
	return nil
}

// member is who asks, by the certificates in the question; they may be over, but
// not for ever.
func (t trust) member(c *call) (discovery.Identity, error) {
	if len(c.Chain) == 0 {
		return discovery.Identity{}, errors.New("no certificates in the question")
	}
	id, pub, err := t.roll.Verify(c.Chain, c.now)
	switch {
	case errors.Is(err, pki.ErrExpired) && c.now.Sub(id.NotAfter) > maxOver:
		return discovery.Identity{}, err
	case err != nil && !errors.Is(err, pki.ErrExpired) && !errors.Is(err, pki.ErrNotYetValid): // clocks were compared: seconds
		return discovery.Identity{}, err
	case !pub.Equal(ed25519.PublicKey(c.Identity)):
		return discovery.Identity{}, errors.New("the certificates are another node's")
	}
	return id, nil
}

// member is the node that asks, or the refusal.
func (s *Server) member(t trust, c *call) (discovery.Identity, *Error) {
	id, err := t.member(c)
	switch {
	case errors.Is(err, pki.ErrExpired):
		return id, refuse(CodeExpired, "the node's certificate ended more than %d days ago", int(maxOver/(24*time.Hour)))
	case errors.Is(err, pki.ErrRevoked):
		return id, refuse(CodeRevokedNode, "what certified this node was revoked")
	case err != nil:
		s.log.Debug("certificates of a question refused", "endpoint", c.from, "err", err)
		return id, refuse(CodeUnknownNode, "the node's certificates are not good here")
	}
	c.Name = id.Name
	return id, nil
}

// trusted is a server's trust, read once if nobody brought it.
type trusted struct {
	mu sync.Mutex // guards the fields below
	trust
}

// trusting is whom this server believes.
func (s *Server) trusting() (trust, *Error) {
	s.trust.mu.Lock()
	t := s.trust.trust
	s.trust.mu.Unlock()
	if t.mesh != "" {
		return t, nil
	}
	t, err := trustOf(s.opts.Dir, s.opts.Roll)
	if err != nil {
		s.log.Error("read trust", "err", err)
		return trust{}, refuse(CodeInternal, "the gateway cannot read its own membership")
	}
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	if s.trust.mesh == "" {
		s.trust.trust = t
	}
	return s.trust.trust, nil
}
