package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// health lists what a person should know, worst first.
func (c *scene) health() {
	c.healthSelf()
	c.healthTrust()
	c.healthSites()
	c.healthGateways()
	c.healthHost()
	c.healthPaths()
	c.healthStreams()
	if c.gateway() {
		c.healthCloud()
		c.healthRoutes()
	}
	slices.SortStableFunc(c.p.Health, func(a, b Health) int {
		return cmp.Or(worse(a.Severity)-worse(b.Severity), strings.Compare(a.Code, b.Code), strings.Compare(a.Subject, b.Subject))
	})
}

func worse(s Severity) int {
	switch s {
	case Broken:
		return 0
	case Warning:
		return 1
	}
	return 2
}

func (c *scene) report(code string, sev Severity, subject, next, text string, args ...any) {
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	c.p.Health = append(c.p.Health, Health{Code: code, Severity: sev, Subject: subject, Text: text, Next: next})
}

func (c *scene) healthSelf() {
	me := c.s.Self
	sight := &c.s.Sight
	if sight.SendErr != "" && !c.within(sight.SendErrSince, time.Second) {
		c.report("send-errors", Broken, name(me.ID, me.Name), "check the network device and routes of this host",
			"this node cannot send into the mesh: %s", sight.SendErr)
	}
	if !c.m.Settled {
		c.report("not-settled", Note, name(me.ID, me.Name), "wait a few seconds", "membership has not settled since the start; nothing is written")
	}
}

func (c *scene) healthSites() {
	for i := range c.p.Sites {
		s := &c.p.Sites[i]
		switch {
		case s.Verdict == Dark && c.place(s.Site).gone == s.Nodes:
			c.report("site-dark", Broken, s.Site, "join a node there, or take the site out of the routes", "all %d nodes of the site were revoked", s.Nodes)
		case s.Verdict == Dark:
			c.report("site-dark", Broken, s.Site, "check the site's power and uplink; weights return by themselves",
				"none of %d nodes answers any gateway (%s)", s.Nodes, s.Reason)
		case s.Reason == discovery.ReasonNoNodes:
			c.report("site-empty", Note, s.Site, "join a node there, or take the site out of the routes", "no node of the site is known")
		case s.Verdict == Undecided && c.gateway():
			c.report("site-undecided", Warning, s.Site, undecidedNext(s.Reason),
				"cannot tell whether the site is up: %s; weights are kept", s.Reason)
		}
	}
}

func undecidedNext(why discovery.Reason) string {
	switch why {
	case discovery.ReasonStarting, discovery.ReasonAlone:
		return "wait a few seconds"
	case discovery.ReasonIsolated:
		return "check this gateway's own network: it hears nobody at all"
	case discovery.ReasonPaused:
		return "check this host for CPU starvation or suspension"
	case discovery.ReasonSendErrors:
		return "check this gateway's network device and routes"
	}
	return "check the path between the gateways: one does not tell the other what it sees"
}

func (c *scene) healthGateways() {
	started := c.s.Sight.Started
	if started.IsZero() || c.within(started, c.t.PeerSilent) {
		return
	}
	heard := false
	var silent []string
	for _, i := range c.gates {
		if c.living(i) {
			heard = true
			continue
		}
		silent = append(silent, name(c.mates[i].ID, c.mates[i].Name))
	}
	slices.Sort(silent)
	c.healthSetBack(silent, !heard)
	if !heard {
		c.report("no-gateway", Broken, name(c.s.Self.ID, c.s.Self.Name), "check this host's uplink, then the gateways' public addresses and UDP port",
			"no gateway answers this node")
		return
	}
	for _, i := range c.gates {
		if m := &c.mates[i]; !c.living(i) {
			c.report("gateway-silent", Warning, name(m.ID, m.Name), "check that the gateway's host and agent run",
				"gateway gives no proof of life (gossip says %s)", m.State)
		}
	}
	if c.gateway() && c.p.Leader == "" {
		c.report("no-leader", Warning, "aws", "check the lease store", "nobody may write to AWS (%s)", c.p.LeaderReason)
	}
}

func name(id discovery.NodeID, label string) string {
	if label != "" {
		return label
	}
	return id.Short()
}
