package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// RevokeToken makes a token worthless at once; who joined with it stays.
func RevokeToken(stateDir, id string) error {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return err
	}
	return dir.Update(func() error {
		t, err := dir.Token(id)
		if err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
		if t.Revoked {
			return nil
		}
		t.Revoked = true
		if err := dir.SetToken(t); err != nil {
			return err
		}
		return note(dir, history.Event{Kind: eventTokenRevoked, Subject: id})
	})
}

// TokenInfo is what can be told of a token without its secret.
type TokenInfo struct {
	ID      string
	Site    string
	Role    discovery.Role
	Created time.Time
	Expires time.Time
	Uses    int      // allowed
	Nodes   []string // names of those who joined with it
	Waiting []string // names of those who asked with it, and hold a use; sorted
	Revoked bool

	Names     []string
	Sources   []netip.Prefix
	Ephemeral bool
	Approval  bool
	Replace   bool
	Subnets   []netip.Prefix
}

// ListTokens tells the tokens of this gateway, oldest first. Damaged files are
// in the error; the others are told all the same.
func ListTokens(stateDir string) ([]TokenInfo, error) {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return nil, err
	}
	tokens, err := dir.Tokens()
	waiting, err2 := dir.ListPending()
	list := make([]TokenInfo, 0, len(tokens))
	for _, t := range tokens {
		i := TokenInfo{
			ID: t.ID, Site: t.Site, Role: t.Role, Created: t.Created, Expires: t.Expires, Uses: t.Uses, Revoked: t.Revoked,
			Names: t.Names, Sources: t.Sources, Ephemeral: t.Ephemeral, Approval: t.Approval, Replace: t.Replace,
			Subnets: t.Subnets,
		}
		joined := map[discovery.NodeID]bool{}
		for _, r := range t.Redeemed {
			i.Nodes = append(i.Nodes, r.Name)
			joined[r.Node] = true
		}
		for _, p := range waiting {
			if p.Token == t.ID && !joined[p.Node] {
				i.Waiting = append(i.Waiting, p.Name)
			}
		}
		slices.Sort(i.Waiting)
		list = append(list, i)
	}
	return list, errors.Join(err, err2)
}
