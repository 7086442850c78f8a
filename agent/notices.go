package agent

import (
	"errors"
	"fmt"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// heard takes a notice that gossip brought, and reports whether it is news.
func (a *Agent) heard(b []byte) bool {
	n, news, err := a.trust.roll.Add(b, time.Now())
	if err != nil {
		a.log.Debug("notice refused", "err", err)
		return false
	}
	if news {
		a.effect(n, "agent "+n.By)
		a.trust.wake()
	}
	return news
}

// declare signs a notice with this gateway's issuing key and tells everybody.
// When it returns the notice is on disk, its effect here has begun, and the
// living were told once.
func (a *Agent) declare(n pki.Notice, actor string) error {
	signer, err := a.issuer()
	if err != nil {
		return err
	}
	n.At = time.Now().UTC().Truncate(time.Second)
	b, err := pki.SignNotice(signer, a.id.node.Mesh, n)
	if err != nil {
		return fmt.Errorf("sign notice: %w", err)
	}
	return a.publish(b, actor)
}

// publish adds a signed notice here and tells everybody.
func (a *Agent) publish(b []byte, actor string) error {
	n, news, err := a.trust.roll.Add(b, time.Now())
	if err != nil {
		return fmt.Errorf("take notice: %w", err)
	}
	if news {
		a.effect(n, actor)
		err = a.trust.keep()
	}
	a.gossip.Publish(b)
	if err != nil {
		// It holds here and is told; a restart of everybody would lose it.
		a.trust.wake()
		return fmt.Errorf("the notice holds now but is not on disk yet: %w", err)
	}
	return nil
}

func (t *trust) wake() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// issuer is this gateway's issuing certificate with its key.
func (a *Agent) issuer() (*pki.Signer, error) {
	cert, err := a.dir.Issuer()
	if err != nil {
		return nil, fmt.Errorf("this host has no issuing certificate: %w", err)
	}
	key, err := a.dir.IssuerKey()
	if err != nil {
		return nil, fmt.Errorf("this host has no issuing key: %w", err)
	}
	return pki.NewSigner(cert, key)
}

// effect is what follows from a notice that is news.
func (a *Agent) effect(n pki.Notice, actor string) {
	name := n.Name
	var end time.Time // of the node's newest certificate
	if m, ok := a.member(n.Node); ok {
		name, end = m.Name, m.NotAfter
		if n.Kind == pki.NoticeRevoked {
			a.trust.bury(m, time.Now())
		}
	}
	switch n.Kind {
	case pki.NoticeRevoked:
		if n.Node == a.id.self.ID {
			a.trust.set(func(f *discovery.Trust) { f.Revoked = n.Reason })
		}
		a.gossip.Recheck()
		a.recheckStreams()
		a.release(n.Node, end)
	case pki.NoticeQuarantined, pki.NoticeReleased:
		apart := a.trust.apart()
		a.trust.set(func(f *discovery.Trust) { f.Apart = apart })
		a.recheckStreams()
	case pki.NoticeIssuerRevoked:
		a.gossip.Recheck()
		a.recheckStreams()
	case pki.NoticeRoots:
		a.turnToRoots()
	}
	a.log.Info("notice", "kind", string(n.Kind), "node", n.Node, "name", name, "reason", n.Reason, "by", n.By)
	a.trust.history.Append(history.Event{
		Kind: string(n.Kind), Subject: subjectOf(n.Node, name), Reason: n.Reason, Actor: actor, Detail: map[string]string{"by": n.By},
	})
}

// member finds a member by id.
func (a *Agent) member(id discovery.NodeID) (discovery.Member, bool) {
	for _, m := range a.gossip.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return discovery.Member{}, false
}

// release frees the address of a revoked node where it was given.
func (a *Agent) release(id discovery.NodeID, end time.Time) {
	if a.id.self.Role != discovery.RoleGateway {
		return
	}
	err := enroll.Release(a.dir, id, time.Now(), end)
	if err != nil && !errors.Is(err, enroll.ErrNoSuchNode) {
		a.log.Error("address not freed: it stays with the revoked node", "node", id, "err", err)
	}
}

// turnToRoots follows a new set of roots: on disk, in the own chain, and in
// what others are told.
func (a *Agent) turnToRoots() {
	t := a.trust
	if err := a.dir.SetRoots(t.roll.Roots().Certs()); err != nil {
		a.log.Error("new roots not written: the notices on disk bring them back", "err", err)
	}
	chain, err := enroll.Refresh(a.dir, t.roll)
	if err != nil {
		a.log.Error("own certificates not refreshed: they rest on an old root", "err", err)
	} else {
		a.useChain(chain)
	}
	a.gossip.Recheck()
	a.herald.trusts(t.epoch())
}

// useChain tells the others of new own certificates, which are on disk.
func (a *Agent) useChain(chain [][]byte) {
	if err := a.gossip.SetChain(chain); err != nil {
		a.log.Error("own certificates not told", "err", err)
		return
	}
	a.lifetime(chain)
}

// lifetime takes the facts of the own certificates.
func (a *Agent) lifetime(chain [][]byte) {
	from, to, err := pki.Lifetime(chain[0])
	if err != nil {
		return
	}
	a.trust.set(func(f *discovery.Trust) { f.Begins, f.Life = from.Add(-pki.Backdate), to.Sub(from) })
	a.world.Expires(to)
	if id, _, _ := a.trust.roll.Verify(chain, time.Now()); id.ID == a.id.self.ID { // also when it is over
		a.world.Subnets(id.Subnets)
	}
	if ca, err := a.dir.Issuer(); err == nil {
		if _, end, err := pki.Lifetime(ca); err == nil {
			a.trust.set(func(f *discovery.Trust) { f.IssuerEnds = end })
		}
	}
}
