package agent

import (
	"context"
	"slices"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/discovery/awsid"
)

// warden watches over membership on a gateway: it sets clones apart, and
// takes out nodes that were made to come and go and have gone.
type warden struct {
	a         *Agent
	instances *awsid.Instances // nil: AWS is not asked
	pace      wardenPace
	asked     time.Time       // when AWS was asked last
	exist     map[string]bool // instances that EC2 has shown to this process
	started   time.Time
}

// wardenPace is how often the warden looks. Tests set another than the usual.
type wardenPace struct {
	collect   time.Duration
	instances time.Duration // between questions to EC2
}

const (
	wardenEvery  = time.Second
	collectEvery = 15 * time.Second // the ledger is on disk
	instancesGap = time.Minute      // between questions to EC2
	// leftFor is how long an ephemeral node that said goodbye may take to
	// come back: a restart says goodbye too.
	leftFor = time.Minute
	// siteSilent is how long an ephemeral node may be silent whose whole site
	// is: the site may be dark, and that is no reason to forget its nodes.
	siteSilent = 24 * time.Hour
	// cloneForks is how often an earlier life must speak again within a minute.
	cloneForks = 3
)

// warden makes the gateway's watch; EC2 is asked only where AWS is configured.
func (a *Agent) warden(ctx context.Context) *warden {
	w := &warden{a: a, pace: a.pace, exist: map[string]bool{}}
	if len(a.set.Enrolment.AWS) > 0 {
		var err error
		if w.instances, err = awsid.NewInstances(ctx, awsid.InstancesOptions{Region: a.set.AWS.Region, EndpointURL: a.set.AWS.EndpointURL}); err != nil {
			a.log.Warn("terminated instances will not be noticed", "err", err)
		}
	}
	return w
}

func (*warden) String() string { return "warden" }

// Run watches until ctx ends.
func (w *warden) Run(ctx context.Context) error {
	tick := time.NewTicker(wardenEvery)
	defer tick.Stop()
	w.started = time.Now()
	var collected time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		w.clones()
		if time.Since(collected) >= w.pace.collect {
			collected = time.Now()
			w.collect(ctx)
		}
	}
}

// clones sets apart who speaks with two voices.
func (w *warden) clones() {
	if !w.a.set.Enrolment.QuarantineClones {
		return
	}
	s := w.a.world.Snapshot(time.Now())
	for _, o := range s.Sight.Observations {
		if o.Forks < cloneForks {
			continue
		}
		m, ok := w.a.member(o.Node)
		if !ok || o.Node == w.a.id.self.ID {
			continue
		}
		if _, apart := w.a.trust.roll.Quarantined(o.Node); apart || !o.Forked.After(w.a.trust.released(o.Node)) {
			continue
		}
		w.a.log.Error("two hosts use one identity: set apart", "node", o.Node, "name", m.Name, "forks", o.Forks)
		w.say(pki.Notice{
			Kind: pki.NoticeQuarantined, Node: o.Node, Name: m.Name, Reason: string(discovery.ReasonClone),
			Epoch: w.a.trust.roll.QuarantineEpoch(o.Node) + 1,
		})
	}
}

// released is when a quarantine of the node last ended, plus the minute in
// which older evidence still counts; zero: never.
func (t *trust) released(id discovery.NodeID) time.Time {
	for _, n := range t.roll.List() {
		if n.Node == id && n.Kind == pki.NoticeReleased {
			return n.At.Add(time.Second)
		}
	}
	return time.Time{}
}

// say declares a notice of this gateway's own.
func (w *warden) say(n pki.Notice) {
	if err := w.a.declare(n, "agent "+w.a.id.self.Name); err != nil {
		w.a.log.Error("notice not declared", "kind", string(n.Kind), "node", n.Node, "err", err)
	}
}

// collect takes out the ephemeral nodes of this gateway's ledger that have
// gone. What is merely silent together with its site is kept.
func (w *warden) collect(ctx context.Context) {
	list, err := enroll.ListTransient(w.a.dir)
	if err != nil {
		w.a.log.Debug("ledger not read", "err", err)
		return
	}
	s := w.a.world.Snapshot(time.Now())
	if !s.Settled || time.Since(w.started) < w.a.set.Enrolment.EphemeralAfter {
		return
	}
	for _, e := range list {
		i := slices.IndexFunc(s.Members, func(m discovery.Member) bool { return m.ID == e.ID })
		if i < 0 || !e.Ephemeral {
			continue // revoked already, or never heard: its address is freed by the ledger's own rule
		}
		if m := s.Members[i]; w.gone(m, s.Members) {
			w.say(pki.Notice{Kind: pki.NoticeRevoked, Node: m.ID, Name: m.Name, Reason: string(discovery.ReasonEphemeral)})
		}
	}
	w.terminated(ctx, list, s.Members)
}

// gone: the node said goodbye, or was silent for long while others of its site
// were not, or for very long.
func (w *warden) gone(m discovery.Member, all []discovery.Member) bool {
	silent := time.Since(m.Since)
	switch m.State {
	case discovery.StateLeft:
		return silent >= leftFor
	case discovery.StateDead, discovery.StateKnown:
	default:
		return false
	}
	others := slices.ContainsFunc(all, func(o discovery.Member) bool {
		return o.ID != m.ID && o.Site == m.Site && o.Role == discovery.RoleServer && o.State == discovery.StateAlive
	})
	return others && silent >= w.a.set.Enrolment.EphemeralAfter || silent >= siteSilent
}

// terminated takes out nodes whose EC2 instance no longer exists. An answer
// that cannot be had says nothing, and an instance that EC2 never showed us
// may be of another account or region.
func (w *warden) terminated(ctx context.Context, list []enroll.Transient, members []discovery.Member) {
	if w.instances == nil || time.Since(w.asked) < w.pace.instances {
		return
	}
	byInstance := map[string]discovery.Member{}
	var ids []string
	for _, e := range list {
		i := slices.IndexFunc(members, func(m discovery.Member) bool { return m.ID == e.ID })
		if e.Instance == "" || i < 0 || len(ids) == awsid.MaxInstances {
			continue
		}
		byInstance[e.Instance] = members[i]
		ids = append(ids, e.Instance)
	}
	if len(ids) == 0 {
		return
	}
	w.asked = time.Now()
	gone, err := w.instances.Gone(ctx, ids)
	if err != nil {
		w.a.log.Debug("instances not known", "err", err)
	}
	for id, is := range gone {
		if !is {
			w.exist[id] = true
			continue
		}
		m := byInstance[id]
		if w.exist[id] && !w.a.alive(m.ID) {
			delete(w.exist, id)
			w.say(pki.Notice{Kind: pki.NoticeRevoked, Node: m.ID, Name: m.Name, Reason: string(discovery.ReasonTerminated)})
		}
	}
}
