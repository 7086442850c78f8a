package decide

import (
	"time"

	"drawbridge/discovery"
)

// When certificates need a person. Nodes renew at half of their life (30 days
// by default), so a third of it left means that renewal fails for days.
const (
	lifeWhenUnknown = 30 * 24 * time.Hour
	certificateDay  = 24 * time.Hour
	// Grace is how long after its end a certificate is still taken from a node
	// that is not known yet. Tunnels that are up stay up in any case.
	Grace = 72 * time.Hour

	issuerWarn  = 90 * 24 * time.Hour // issuing certificates renew half a year before
	issuerError = 30 * 24 * time.Hour
)

// healthTrust lists what certificates, clocks and quarantine have to say.
func (c *scene) healthTrust() {
	c.healthCertificate()
	c.healthClock()
	t := &c.s.Trust
	me := name(c.s.Self.ID, c.s.Self.Name)
	if t.Revoked != "" {
		c.report("revoked", Broken, me, "if that was a mistake: empty the state directory and join again with a new token",
			"this node was revoked (%s): the others have cut it off", t.Revoked)
	}
	for _, a := range t.Apart {
		next := "look at the node, then on a gateway: drawbridge release " + name(a.Node, a.Name)
		if a.Reason == string(discovery.ReasonClone) {
			next = "find the second host with this node's state directory and stop it; then on a gateway: drawbridge release " + name(a.Node, a.Name) +
				"; if a key was stolen: drawbridge revoke " + name(a.Node, a.Name)
		}
		c.report("quarantined", Broken, name(a.Node, a.Name), next, "nobody speaks to this node since %s (%s, said by %s)", minute(a.Since), a.Reason, a.By)
	}
	for _, n := range t.Behind {
		c.report("roots-behind", Note, n, "wait for it, or look why it does not hear the others; then go on with the rotation", "does not trust the newest roots of the mesh yet")
	}
	c.healthPeers()
}

// healthCertificate judges this node's own certificates.
func (c *scene) healthCertificate() {
	t, me := &c.s.Trust, name(c.s.Self.ID, c.s.Self.Name)
	life := t.Life
	if life <= 0 {
		life = lifeWhenUnknown
	}
	next, why := "check that a gateway's TCP port can be reached; it renews certificates", ""
	if t.RenewErr != "" {
		why = "; the last try failed: " + t.RenewErr
	}
	end := c.s.Self.NotAfter
	left := end.Sub(c.now)
	switch {
	case end.IsZero():
	case c.now.Before(t.Begins):
		c.healthNotYet()
	case left <= 0:
		c.report("certificate-expired", Broken, me, next,
			"certificate ended on %s; traffic goes on, nodes that do not know this one refuse it from %s%s", minute(end), minute(end.Add(Grace)), why)
	case left < life/3:
		sev := Warning
		if left < min(certificateDay, life/30) {
			sev = Broken
		}
		c.report("certificate-expiring", sev, me, next, "certificate ends on %s and was not renewed%s", minute(end), why)
	case t.RenewErr != "" && !c.within(t.RenewSince, life/20):
		c.report("renewal-failing", Warning, me, next, "the certificate could not be renewed since %s: %s", minute(t.RenewSince), t.RenewErr)
	}
	if left := t.IssuerEnds.Sub(c.now); !t.IssuerEnds.IsZero() && left < issuerWarn {
		sev := Warning
		if left < issuerError {
			sev = Broken
		}
		c.report("issuer-expiring", sev, me, "bring the root key to a gateway, or carry a request to it: drawbridge root requests",
			"this gateway's issuing certificate ends on %s: after that it enrols and renews nobody", minute(t.IssuerEnds))
	}
}

// healthPeers tells of others: certificates that ended, and names that two have.
func (c *scene) healthPeers() {
	holder := make(map[string]int, len(c.mates))
	for i := range c.mates {
		m := &c.mates[i]
		if c.gateway() && i != c.self && !m.NotAfter.IsZero() && c.now.After(m.NotAfter) && !c.gone(m) {
			c.report("peer-certificate-expired", Warning, name(m.ID, m.Name), "look at that node's status: it says why it is not renewed",
				"certificate ended on %s; its traffic goes on", minute(m.NotAfter))
		}
		if c.gone(m) || m.apart {
			continue
		}
		j, twice := holder[m.Name]
		if !twice {
			holder[m.Name] = i
			continue
		}
		if c.gateway() {
			c.report("name-conflict", Warning, m.Name, "revoke one of the two by its id", "two nodes have this name: %s and %s", c.mates[j].ID.Short(), m.ID.Short())
		}
	}
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
