package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const (
	// pendingTrail is how long a host may wait after the end of its token.
	pendingTrail = 24 * time.Hour
	// awsPatience is how long a host may wait that came without a token.
	awsPatience = 48 * time.Hour
)

// Fingerprint is the short form of an identity key for people to compare: its
// first 64 bits in the node's id, as in 4f2a-91c0-77de-1b02.
func Fingerprint(id discovery.NodeID) string {
	if len(id) < 16 {
		return string(id)
	}
	return fmt.Sprintf("%s-%s-%s-%s", id[:4], id[4:8], id[8:12], id[12:16])
}

// waiting finds what a host waits with; nil: it does not wait. Who waits and
// comes with other claims is turned away: a person looked at the first.
func (s *Server) waiting(c *call) (*statedir.Pending, *Error) {
	p, err := s.opts.Dir.PendingOf(c.id, c.Token)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		s.log.Error("read waiting host", "node", c.Name, "err", err)
		return nil, refuse(CodeInternal, "the gateway cannot read who waits")
	case c.now.After(p.Until):
		return nil, nil // as good as forgotten
	case p.Verdict == statedir.Refused:
		return nil, refuse(CodeRefused, "an operator refused this host")
	case p.Name != c.Name || !bytes.Equal(p.WireGuard, c.WireGuard) || !bytes.Equal(p.Issuer, c.Issuer):
		return nil, refuse(CodeUsedUp, "this host waits already, under the name %q and with other keys", p.Name)
	}
	return &p, nil
}

// hold lets a host wait, and says for what. The ledger's lock is held.
func (s *Server) hold(on terms, wait *statedir.Pending, c *call, what string) (outcome, *Error) {
	pending := refuse(CodePending, "%s waits for %s", Fingerprint(c.id), what)
	if wait != nil {
		return outcome{}, pending
	}
	if err := prunePending(s.opts.Dir, c.now); err != nil {
		s.log.Warn("forget old waiting hosts", "err", err)
	}
	err := s.opts.Dir.SetPending(statedir.Pending{
		Node: c.id, Token: on.token, Caller: on.caller, Name: c.Name, Site: on.site, Role: on.role,
		From: c.from.Addr().Unmap(), WireGuard: c.WireGuard, Issuer: c.Issuer,
		Since: c.now.UTC(), Until: on.until.UTC(), Approval: on.approval, Subnets: on.subnets,
	})
	if errors.Is(err, statedir.ErrManyPending) {
		return outcome{}, refuse(CodeManyPending, "%d hosts wait at this gateway, no more can", statedir.MaxPending)
	}
	if err != nil {
		s.log.Error("keep waiting host", "err", err)
		return outcome{}, refuse(CodeInternal, "the gateway cannot keep who waits")
	}
	s.log.Info("host waits", "node", c.Name, "site", on.site, "role", on.role, "token", on.token, "endpoint", c.from, "reason", pending.Text)
	return outcome{events: []history.Event{{Kind: eventWaiting, Subject: subject(c.id, c.Name), Reason: "pending", Detail: map[string]string{
		"fingerprint": Fingerprint(c.id), "token": on.token, "for": what, "caller": on.caller,
	}}}}, pending
}

// prunePending forgets who waited too long. Damaged requests stay, for a
// person, and keep holding their use.
func prunePending(dir *statedir.Dir, now time.Time) error {
	list, _ := dir.ListPending()
	for _, p := range list {
		if now.After(p.Until) {
			if err := dir.RemovePending(p.Node, p.Token); err != nil {
				return err
			}
		}
	}
	return nil
}
