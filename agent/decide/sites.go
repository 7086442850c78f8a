package decide

import (
	"time"

	"drawbridge/agent/verdict"
	"drawbridge/discovery"
)

// judge fills the status of every remote site: the own view, what others told,
// and the verdict.
func (c *scene) judge() {
	n := 0
	for i := range c.places {
		if c.judged(&c.places[i]) {
			n++
		}
	}
	c.p.Sites = make([]SiteStatus, 0, n)
	c.m.Sites = make([]SiteMemory, 0, n)
	for i := range c.places {
		p := &c.places[i]
		if !c.judged(p) {
			continue
		}
		mem := c.recallSite(p)
		c.p.Sites = append(c.p.Sites, c.site(p, &mem))
		c.m.Sites = append(c.m.Sites, mem)
		p.status = &c.p.Sites[len(c.p.Sites)-1]
	}
}

// judged: a remote site with servers, or that had some, or that a route names.
func (c *scene) judged(p *place) bool {
	return c.remote(p) && (p.watched() > 0 || len(p.all) == 0)
}

// recallSite takes a site's memory along. A proof from before the prober
// started proves nothing now.
func (c *scene) recallSite(p *place) SiteMemory {
	mem := SiteMemory{Site: p.name, Known: c.now}
	if o := c.old.site(p.name); o != nil {
		mem = *o
	}
	mem.Seen = later(mem.Seen, p.seen)
	if mem.Seen.Before(c.s.Sight.Started) {
		mem.Seen = time.Time{}
	}
	if c.m.restarted(c.old) {
		mem.Lit, mem.Steady = time.Time{}, false
	}
	return mem
}

func (c *scene) site(p *place, mem *SiteMemory) SiteStatus {
	st := SiteStatus{Site: p.name, Nodes: p.watched(), LastSeen: mem.Seen}
	pace := c.pace(len(p.servers))
	for _, i := range p.servers {
		if c.within(c.mates[i].proof, pace.DarkAfter) {
			st.Proven++
		}
	}
	st.Own = discovery.View{Observer: c.s.Self.ID, Site: p.name, State: discovery.ViewBlind, LastProof: -1, Heard: c.now}
	why := discovery.ReasonNotObserver
	if c.gateway() && p.watched() > 0 {
		st.Own.State, why = verdict.Own(c.now, c.seen(mem), pace.DarkAfter, c.t.StartGrace)
	}
	mem.noteLight(c.now, st.Own.State)
	if !mem.Seen.IsZero() {
		st.Own.LastProof = c.now.Sub(mem.Seen)
	}
	e := verdict.Evidence{
		Observer: c.gateway(), Nodes: p.watched(), Own: st.Own.State, Why: why,
		Started: c.s.Sight.Started, LastProof: mem.Seen,
	}
	c.hear(p, &e, &st)
	st.Verdict, st.Reason = verdict.Of(c.now, e, verdict.Patience{
		AloneAfter: c.t.AloneAfter, PeerSilent: c.t.PeerSilent, ViewFresh: c.t.ViewFresh,
	})
	if st.Verdict != mem.Verdict {
		mem.Since = c.now
	}
	mem.Verdict, mem.Reason = st.Verdict, st.Reason
	st.Since = mem.Since
	return st
}

// noteLight measures how long the own view has been lit without a break.
func (m *SiteMemory) noteLight(now time.Time, own discovery.ViewState) {
	switch {
	case own != discovery.ViewLit:
		m.Lit = time.Time{}
	case m.Lit.IsZero():
		m.Lit = now
	default:
		m.Steady = m.Steady || now.Sub(m.Lit) >= verdict.SteadyAfter
	}
}

func (c *scene) seen(mem *SiteMemory) verdict.Seen {
	sight := &c.s.Sight
	v := verdict.Seen{LastProof: mem.Seen, Known: mem.Known, Started: sight.Started, At: sight.At, Paused: sight.Paused, Steady: mem.Steady}
	if sight.SendErr != "" {
		v.SendErr = sight.SendErrSince
	}
	return v
}

// hear gathers the other observers of a site, what they told, and witnesses
// for our own connection.
func (c *scene) hear(p *place, e *verdict.Evidence, st *SiteStatus) {
	if !c.gateway() {
		return
	}
	for _, i := range c.gates {
		m := &c.mates[i]
		if i == c.self || m.Site == p.name {
			continue // its own site is not for it to observe
		}
		g := verdict.Gateway{ID: m.ID, Heard: m.heard}
		if m.State == discovery.StateDead {
			g.Dead = m.Since
		}
		if v := c.view(m.ID, p.name); v != nil {
			g.View, g.Told = v.State, v.Heard
			st.Views = append(st.Views, *v)
		}
		e.Gateways = append(e.Gateways, g)
	}
	e.Witness = c.witness(p.name)
	e.Cloud = c.cloudWitness(p.name)
}

// view is what an observer told of a site; views are sorted by observer, site.
func (c *scene) view(observer discovery.NodeID, site string) *discovery.View {
	list := c.s.Views
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if v := &list[mid]; v.Observer < observer || v.Observer == observer && v.Site < site {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(list) && list[lo].Observer == observer && list[lo].Site == site {
		return &list[lo]
	}
	return nil
}

// witness is the newest proof of any other member that is not at the site.
func (c *scene) witness(site string) time.Time {
	var t time.Time
	for i := range c.places {
		if p := &c.places[i]; p.name != site {
			t = later(t, p.proof)
		}
	}
	return t
}

// cloudWitness is when the cloud last gave a sign that the fault is not ours;
// zero when its load balancer still calls a target of the site healthy, for
// then somebody carries traffic there, and it is us who are cut off. An empty
// site stands for all.
func (c *scene) cloudWitness(site string) time.Time {
	for _, s := range c.shares {
		if site != "" && s.site != site {
			continue
		}
		if g := c.groupReading(s.group); g != nil && g.Err == "" && c.within(g.Read, verdict.CloudFresh) && g.Healthy() > 0 {
			return time.Time{}
		}
	}
	return c.cloudRead()
}

// cloudRead is when the cloud's API last gave a good answer, of all readings
// whose newest attempt was good.
func (c *scene) cloudRead() time.Time {
	var t time.Time
	good := func(read time.Time, err string) {
		if err == "" {
			t = later(t, read)
		}
	}
	for i := range c.s.Cloud.Groups {
		good(c.s.Cloud.Groups[i].Read, c.s.Cloud.Groups[i].Err)
	}
	for i := range c.s.Cloud.Splits {
		good(c.s.Cloud.Splits[i].Read, c.s.Cloud.Splits[i].Err)
	}
	for i := range c.s.Cloud.NextHops {
		good(c.s.Cloud.NextHops[i].Read, c.s.Cloud.NextHops[i].Err)
	}
	return t
}
