package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// What a waiting host waits for.
const (
	waitsApproval = "approval" // of a person
	waitsRoot     = "root"     // for the root key's grant, see [RootRequests]
	waitsItself   = "itself"   // all is decided: until it asks again
	waitsRefused  = "refused"  // never; kept so that it is told, and its use stays spent
)

// PendingInfo is a host that waits at this gateway.
type PendingInfo struct {
	Fingerprint string
	Node        discovery.NodeID
	Name        string
	Site        string
	Role        discovery.Role
	Token       string     // empty: by its AWS identity
	Caller      string     // the AWS identity
	From        netip.Addr // underlay
	Since       time.Time
	Until       time.Time      // forgotten then
	State       string         // what it waits for: approval, root, itself (to ask again) or refused
	By          string         // who decided
	Subnets     []netip.Prefix // that it may advertise
}

func pendingInfo(p statedir.Pending) PendingInfo {
	i := PendingInfo{
		Fingerprint: Fingerprint(p.Node), Node: p.Node, Name: p.Name, Site: p.Site, Role: p.Role, Token: p.Token,
		Caller: p.Caller, From: p.From, Since: p.Since, Until: p.Until, State: waitsItself, By: p.By,
		Subnets: p.Subnets,
	}
	switch {
	case p.Verdict == statedir.Refused:
		i.State = waitsRefused
	case p.Approval && p.Verdict != statedir.Approved:
		i.State = waitsApproval
	case p.Role == discovery.RoleGateway && p.Grant == "":
		i.State = waitsRoot
	}
	return i
}

// ListPending tells who waits at this gateway, oldest first. Damaged files are
// in the error; the others are told all the same.
func ListPending(stateDir string) ([]PendingInfo, error) {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return nil, err
	}
	waiting, err := dir.ListPending()
	list := make([]PendingInfo, 0, len(waiting))
	for _, p := range waiting {
		list = append(list, pendingInfo(p))
	}
	return list, err
}

// ErrNotWaiting means that no host with this fingerprint waits.
var ErrNotWaiting = errors.New("no such host waits at this gateway")

// Approve lets a waiting host in: it joins with its next question. who is its
// fingerprint or node id; actor is who approves, see [history.Person].
func Approve(stateDir, who, actor string) (PendingInfo, error) {
	return decidePending(stateDir, who, actor, statedir.Approved)
}

// Refuse turns a waiting host away for good. The use of its token stays spent:
// who was refused shall not come back with other keys.
func Refuse(stateDir, who, actor string) (PendingInfo, error) {
	return decidePending(stateDir, who, actor, statedir.Refused)
}

func decidePending(stateDir, who, actor string, v statedir.Verdict) (PendingInfo, error) {
	what, kind := "approve", eventApproved
	if v == statedir.Refused {
		what, kind = "refuse", eventDenied
	}
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return PendingInfo{}, err
	}
	now := time.Now()
	var info PendingInfo
	err = dir.Update(func() error {
		p, err := findPending(dir, who, now)
		if err != nil {
			return err
		}
		info = pendingInfo(p)
		switch p.Verdict {
		case v:
			return nil // said already
		case statedir.Refused:
			return fmt.Errorf("%s refused it %s; the host must ask again with a new token", p.By, p.Decided.Format(time.RFC3339))
		}
		p.Verdict, p.By, p.Decided = v, actor, now.UTC()
		if err := dir.SetPending(p); err != nil {
			return err
		}
		info = pendingInfo(p)
		return note(dir, history.Event{Kind: kind, Subject: subject(p.Node, p.Name), Actor: actor, Detail: map[string]string{
			"fingerprint": info.Fingerprint, "token": p.Token, "site": p.Site, "role": string(p.Role), "source": p.From.String(),
		}})
	})
	if err != nil {
		return info, fmt.Errorf("%s host %s: %w", what, printable(who), err)
	}
	return info, nil
}

// findPending finds the request that is meant: of a host that waits with several
// tokens the newest.
func findPending(dir *statedir.Dir, who string, now time.Time) (statedir.Pending, error) {
	list, damaged := dir.ListPending()
	who = strings.ToLower(strings.TrimSpace(who))
	var found []statedir.Pending
	for _, p := range list {
		if (who == Fingerprint(p.Node) || who == string(p.Node)) && now.Before(p.Until) {
			found = append(found, p)
		}
	}
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	return statedir.Pending{}, errors.Join(ErrNotWaiting, damaged)
}
