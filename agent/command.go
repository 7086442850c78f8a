package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"drawbridge/agent/api"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

var _ api.Commands = commands{}

// commands is what a person may ask of a running agent. All of them are facts
// told to the mesh; what follows from them is decided everywhere alike.
type commands struct{ a *Agent }

// Revoke puts a node out for good.
func (c commands) Revoke(_ context.Context, cmd api.Command, actor string) (api.Done, error) {
	return c.say(cmd, actor, pki.NoticeRevoked, "is revoked: its tunnels end, and it cannot come back but by a new token")
}

// Quarantine sets a node apart until it is released.
func (c commands) Quarantine(_ context.Context, cmd api.Command, actor string) (api.Done, error) {
	return c.say(cmd, actor, pki.NoticeQuarantined, "is in quarantine: nobody speaks to it until it is released")
}

// Release ends a quarantine.
func (c commands) Release(_ context.Context, cmd api.Command, actor string) (api.Done, error) {
	return c.say(cmd, actor, pki.NoticeReleased, "is released from quarantine")
}

// say declares a notice about the node that a person named.
func (c commands) say(cmd api.Command, actor string, kind pki.NoticeKind, text string) (api.Done, error) {
	a := c.a
	if a.id.self.Role != discovery.RoleGateway {
		return api.Done{}, &api.Error{
			Status: http.StatusForbidden, Code: "not-a-gateway", Message: a.id.self.Name + " is a server: only gateways may say that",
			Next: "run the command on a gateway",
		}
	}
	id, name, err := c.find(cmd.Node)
	if err != nil {
		return api.Done{}, err
	}
	q, apart := a.trust.roll.Quarantined(id)
	switch _, revoked := a.trust.roll.Revoked(id); {
	case id == a.id.self.ID:
		return api.Done{}, &api.Error{Code: "self", Message: "this is the node itself", Next: "run the command on another gateway, or `drawbridge leave` here"}
	case revoked:
		return api.Done{}, &api.Error{Code: "revoked-already", Message: name + " was revoked already"}
	case kind == pki.NoticeReleased && !apart:
		return api.Done{}, &api.Error{Code: "not-in-quarantine", Message: name + " is not in quarantine", Next: "drawbridge trust shows who is"}
	case kind == pki.NoticeQuarantined && apart:
		return api.Done{}, &api.Error{Code: "in-quarantine", Message: fmt.Sprintf("%s is in quarantine already (%s)", name, q.Reason)}
	}
	n := pki.Notice{Kind: kind, Node: id, Name: name, Reason: cmd.Reason}
	if n.Reason == "" {
		n.Reason = string(discovery.ReasonOperator)
	}
	if kind != pki.NoticeRevoked {
		n.Epoch = a.trust.roll.QuarantineEpoch(id) + 1
	}
	if err := a.declare(n, actor); err != nil {
		return api.Done{}, err
	}
	return api.Done{Node: string(id), Name: name, Text: name + " " + text, Told: a.living()}, nil
}

// find resolves a name or an id, of members and of those in quarantine.
func (c commands) find(subject string) (discovery.NodeID, string, error) {
	type node struct {
		id   discovery.NodeID
		name string
	}
	var found []node
	keep := func(id discovery.NodeID, name string) {
		known := slices.ContainsFunc(found, func(n node) bool { return n.id == id })
		if !known && subject != "" && (name == subject || string(id) == subject || len(subject) >= 8 && strings.HasPrefix(string(id), subject)) {
			found = append(found, node{id, name})
		}
	}
	for _, m := range c.a.gossip.Members() {
		keep(m.ID, m.Name)
	}
	for _, n := range c.a.trust.roll.List() {
		keep(n.Node, n.Name)
	}
	switch len(found) {
	case 1:
		return found[0].id, found[0].name, nil
	case 0:
		return "", "", &api.Error{
			Status: http.StatusNotFound, Code: "unknown-node", Message: fmt.Sprintf("no node is called %q", subject),
			Next: "give the name or the id that `drawbridge members` shows",
		}
	}
	var ids []string
	for _, n := range found {
		ids = append(ids, string(n.id))
	}
	return "", "", &api.Error{Code: "ambiguous", Message: fmt.Sprintf("%d nodes are called %q", len(found), subject), Next: "give the id: " + strings.Join(ids, " or ")}
}

// Publish takes a notice that was signed elsewhere, by the root.
func (c commands) Publish(_ context.Context, cmd api.Command, actor string) (api.Done, error) {
	if err := c.a.publish(cmd.Notice, actor); err != nil {
		return api.Done{}, &api.Error{Code: "bad-notice", Message: err.Error(), Next: "make it anew with the mesh's present root key"}
	}
	n, err := pki.ReadNotice(cmd.Notice)
	if err != nil {
		return api.Done{}, err
	}
	return api.Done{Node: string(n.Node), Name: n.Name, Text: "notice " + string(n.Kind) + " is told", Told: c.a.living()}, nil
}

// Leave says goodbye for good: a gateway takes the node off the mesh, and the
// agent ends. The keys are removed by who asked, once the agent is gone.
func (c commands) Leave(ctx context.Context, _ api.Command, actor string) (api.Done, error) {
	a := c.a
	if a.id.self.Role == discovery.RoleGateway {
		return api.Done{}, &api.Error{
			Code: "gateway", Message: "a gateway does not leave by itself: hosts that it certified stay, and its addresses rest",
			Next: "stop it, and on another gateway: drawbridge revoke " + a.id.self.Name,
		}
	}
	if err := enroll.Leave(ctx, a.renewOptions()); err != nil {
		return api.Done{}, &api.Error{Code: "no-gateway", Message: err.Error(), Next: "try again when a gateway can be reached, or on a gateway: drawbridge revoke " + a.id.self.Name}
	}
	a.log.Info("left the mesh", "by", actor)
	a.leaving()
	return api.Done{Node: string(a.id.self.ID), Name: a.id.self.Name, Text: a.id.self.Name + " has left the mesh"}, nil
}

// living counts the other nodes that gossip calls alive.
func (a *Agent) living() int {
	n := 0
	for _, m := range a.gossip.Members() {
		if m.ID != a.id.self.ID && (m.State == discovery.StateAlive || m.State == discovery.StateSuspect) {
			n++
		}
	}
	return n
}
