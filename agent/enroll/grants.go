package enroll

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// RootRequests are what to carry to the root key when it is not here, as text
// for [rootca.ParseRequest], one block after the other: of this gateway itself,
// when its issuing certificate is past half its life, and of gateways that wait
// to join, oldest first. It is empty when nothing is asked for.
func RootRequests(stateDir string) (string, error) {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return "", err
	}
	list, err := rootRequests(dir, time.Now())
	if err != nil {
		return "", fmt.Errorf("list requests to the root key: %w", err)
	}
	var b strings.Builder
	for _, r := range list {
		b.WriteString(r.Encode())
	}
	return b.String(), nil
}

func rootRequests(dir *statedir.Dir, now time.Time) ([]rootca.Request, error) {
	if _, err := dir.RootKey(); err == nil {
		return nil, nil
	}
	t, err := trustOf(dir, nil)
	if err != nil {
		return nil, err
	}
	pin, err := pki.Pin(t.roll.Roots().Certs()[0])
	if err != nil {
		return nil, err
	}
	var list []rootca.Request
	n, err := dir.Node()
	if err != nil {
		return nil, err
	}
	past, err := halfOver(dir, now)
	if err != nil {
		return nil, err
	}
	if past {
		key, err := dir.IdentityKey()
		if err != nil {
			return nil, err
		}
		own, err := ownRequest(dir, t, pki.NodeID(key.Public().(ed25519.PublicKey)), n.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, own)
	}
	waiting, damaged := dir.ListPending()
	for _, p := range waiting {
		if pendingInfo(p).State == waitsRoot && now.Before(p.Until) {
			list = append(list, rootca.Request{Mesh: t.mesh, Name: p.Name, Node: p.Node, Issuer: p.Issuer, Pin: pin})
		}
	}
	return list, damaged
}

// ownRequest asks for a gateway's own issuing key.
func ownRequest(dir *statedir.Dir, t trust, id discovery.NodeID, name string) (rootca.Request, error) {
	key, err := dir.IssuerKey()
	if err != nil {
		return rootca.Request{}, err
	}
	pin, err := pki.Pin(t.roll.Roots().Certs()[0])
	if err != nil {
		return rootca.Request{}, err
	}
	return rootca.Request{Mesh: t.mesh, Name: name, Node: id, Issuer: key.Public().(ed25519.PublicKey), Pin: pin}, nil
}

// InstallGrant takes what the root key signed: for this gateway itself, or for
// one that waits, which gets it with its next question.
func InstallGrant(stateDir, text string) (rootca.Grant, error) {
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return rootca.Grant{}, err
	}
	g, err := rootca.ParseGrant(text)
	if err == nil {
		err = installGrant(dir, g, text, time.Now())
	}
	if err != nil {
		return g, fmt.Errorf("install the root key's grant: %w", err)
	}
	return g, nil
}

func installGrant(dir *statedir.Dir, g rootca.Grant, text string, now time.Time) error {
	t, err := trustOf(dir, nil)
	if err != nil {
		return err
	}
	key, err := dir.IdentityKey()
	if err != nil {
		return err
	}
	return dir.Update(func() error {
		if g.Node == pki.NodeID(key.Public().(ed25519.PublicKey)) {
			err = installOwn(dir, t, g)
		} else {
			err = installFor(dir, t, g, text, now)
		}
		if err != nil {
			return err
		}
		return note(dir, history.Event{Kind: eventGrant, Subject: subject(g.Node, g.Name), Detail: map[string]string{"block": g.Block.String()}})
	})
}

// installOwn takes a grant for this gateway: the same key, name and block.
func installOwn(dir *statedir.Dir, t trust, g rootca.Grant) error {
	key, err := dir.IssuerKey()
	if err != nil {
		return err
	}
	n, err := dir.Node()
	if err != nil {
		return err
	}
	old, err := dir.Issuer()
	if err != nil {
		return err
	}
	block, err := pki.BlockOf(old)
	if err != nil {
		return err
	}
	if err := checkGrant(t, g, g.Node, n.Name, key.Public().(ed25519.PublicKey)); err != nil {
		return err
	}
	if g.Block != block {
		return fmt.Errorf("it is for the block %s, this gateway has %s", g.Block, block)
	}
	// In this order: the older renewer still fits the newer issuer.
	if err := dir.SetIssuer(g.Issuer); err != nil {
		return err
	}
	return dir.SetRenewer(g.Renewer)
}

// installFor keeps a grant for a gateway that waits, under each of its tokens.
func installFor(dir *statedir.Dir, t trust, g rootca.Grant, text string, now time.Time) error {
	list, damaged := dir.ListPending()
	list = slices.DeleteFunc(list, func(p statedir.Pending) bool {
		return p.Node != g.Node || p.Role != discovery.RoleGateway || p.Verdict == statedir.Refused || now.After(p.Until)
	})
	if len(list) == 0 {
		return errors.Join(fmt.Errorf("%w: gateway %s (%s)", ErrNotWaiting, g.Name, g.Node.Short()), damaged)
	}
	for _, p := range list {
		if err := checkGrant(t, g, p.Node, p.Name, p.Issuer); err != nil {
			return err
		}
		p.Grant = text
		if err := dir.SetPending(p); err != nil {
			return err
		}
	}
	return nil
}

// checkGrant checks a grant by the roots trusted now, against what was asked.
func checkGrant(t trust, g rootca.Grant, id discovery.NodeID, name string, key []byte) error {
	roots := t.roll.Roots()
	for _, ca := range [][]byte{g.Issuer, g.Renewer} {
		if err := pki.CheckCA(ca, roots, t.mesh); err != nil {
			return err
		}
		if !sameKey(ca, key) {
			return errors.New("it certifies another key than was asked for")
		}
		if of := pki.Gateway(ca); of != name {
			return fmt.Errorf("it is for the gateway %q, not %q", of, name)
		}
		if t.roll.IssuerRevoked(ca) {
			return fmt.Errorf("%w: this issuing key", pki.ErrRevoked)
		}
	}
	issues, err := pki.IsRenewer(g.Issuer)
	renews, err2 := pki.IsRenewer(g.Renewer)
	block, err3 := pki.BlockOf(g.Issuer)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	switch {
	case issues || !renews:
		return errors.New("issuing and renewal certificate are not in their places")
	case block != g.Block || g.Node != id || g.Name != name:
		return errors.New("what it says and what it certifies differ")
	}
	return nil
}
