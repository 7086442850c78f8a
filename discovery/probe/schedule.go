package probe

import (
	"slices"
	"time"

	"drawbridge/discovery"
)

const (
	echoEvery = 20 * time.Millisecond // between the echo requests of a burst
	// After so long without an answer a burst has told what it can: requests
	// go on at the pace of pulses, until there is proof.
	burstFor = 30 * time.Second
	// A peer that has not probed us for so long is idle for OnDemand.
	demandFor = 5 * time.Second
	// The pulses of a quiet peer are answered so often: it sends one a second,
	// give or take its jitter.
	quietEvery = 800 * time.Millisecond
	// Notes to quiet peers wait for each other, so that a thousand of them are
	// not looked at with every packet.
	quietNotes = 100 * time.Millisecond
)

// group is the peers of one site, the unit of echo bursts.
type group struct {
	name  string
	peers []*peer
	mood  mood
}

type mood uint8

const (
	calm    mood = iota // somebody gave proof lately
	asking              // nobody did: ask all of them, often
	waiting             // and have not for long
)

func grouped(peers []*peer) []group {
	var gs []group
	for _, q := range peers {
		if q.Group == "" {
			continue
		}
		i := slices.IndexFunc(gs, func(g group) bool { return g.name == q.Group })
		if i < 0 {
			gs = append(gs, group{name: q.Group})
			i = len(gs) - 1
		}
		gs[i].peers = append(gs[i].peers, q)
	}
	return gs
}

// since is when the group's silence began: at its newest proof or, when there
// never was any, when the first of it came into the wish.
func (g *group) since() time.Time {
	var proof, added time.Time
	for _, q := range g.peers {
		if q.proof.After(proof) {
			proof = q.proof
		}
		if added.IsZero() || q.added.Before(added) {
			added = q.added
		}
	}
	if proof.IsZero() {
		return added
	}
	return proof
}

// judge sets the mood by the silence at now.
func (g *group) judge(now time.Time, after time.Duration) {
	silent := now.Sub(g.since())
	switch {
	case after <= 0 || silent < after:
		g.mood = calm
	case silent < after+burstFor:
		g.mood = asking
	default:
		g.mood = waiting
	}
}

// send sends what is due.
func (p *Prober) send(s *socket, now time.Time) {
	for i := range p.groups {
		g := &p.groups[i]
		g.judge(now, p.cur.EchoAfter)
		for _, q := range g.peers {
			q.mood = g.mood
		}
	}
	p.sendQuietNotes(s, now)
	for _, q := range p.pulsed {
		p.sendNotes(s, q, now)
		tell := p.tellNow && q.Tell
		if !tell && now.Before(p.due(q, now)) {
			continue
		}
		kind := kindPulse
		if q.mood != calm {
			kind = kindRequest
		}
		p.pulse(s, q, kind, now)
		q.sentAt, q.jitter = now, jittered(p.pace(q, now))-p.pace(q, now)
	}
	p.tellNow = false
}

// pace is the time between two packets to the peer, before jitter.
func (p *Prober) pace(q *peer, now time.Time) time.Duration {
	switch {
	case q.mood == asking:
		return min(echoEvery, p.cur.Interval)
	case q.Every > 0:
		return q.Every
	case p.cur.OnDemand && (q.askedAt.IsZero() || now.Sub(q.askedAt) > demandFor):
		return p.cur.IdleInterval
	}
	return p.cur.Interval
}

// due is when the peer gets its next packet.
func (p *Prober) due(q *peer, now time.Time) time.Time {
	if q.sentAt.IsZero() {
		return now
	}
	if q.mood == asking {
		return q.sentAt.Add(p.pace(q, now))
	}
	pace := p.pace(q, now)
	return q.sentAt.Add(pace + min(q.jitter, pace/10))
}

// next is when the loop has something to do without a packet.
func (p *Prober) next(now time.Time) time.Time {
	t := now.Add(tick)
	if len(p.groups) == 0 {
		t = now.Add(restTick)
	}
	for _, q := range p.pulsed {
		if d := p.due(q, now); d.Before(t) {
			t = d
		}
		if d, any := q.noteDue(); any && d.Before(t) {
			t = d
		}
	}
	for i := range p.groups {
		g := &p.groups[i]
		if d := g.since().Add(p.cur.EchoAfter); g.mood == calm && p.cur.EchoAfter > 0 && d.Before(t) {
			t = d
		}
	}
	if d := p.quietAt.Add(quietNotes); len(p.pulsed) < len(p.sorted) && d.Before(t) {
		t = d
	}
	if d := p.reportDue(); d.Before(t) {
		t = d
	}
	if least := now.Add(100 * time.Microsecond); t.Before(least) {
		return least // never spin
	}
	return t
}

// pulse sends one packet to the peer, and more when its views do not fit one.
func (p *Prober) pulse(s *socket, q *peer, kind kind, now time.Time) {
	views := p.tell(q, now)
	for first := true; first || len(views) > 0; first = false {
		n := min(len(views), maxViews)
		p.write(s, q, kind, views[:n], now)
		views = views[n:]
	}
}

// tell is the own views as they go to the peer.
func (p *Prober) tell(q *peer, now time.Time) []told {
	p.outViews = p.outViews[:0]
	if !q.Tell {
		return nil
	}
	for _, v := range p.own {
		t := told{site: v.site, state: v.State, age: v.LastProof}
		if old := now.Sub(v.Heard); !v.Heard.IsZero() && old > 0 {
			if t.age >= 0 {
				t.age += old
			}
			if limit := p.opts.ViewMaxAge; limit > 0 && old > limit {
				t.state = discovery.ViewBlind
			}
		}
		p.outViews = append(p.outViews, t)
	}
	return p.outViews
}

func (p *Prober) write(s *socket, q *peer, kind kind, views []told, now time.Time) {
	p.out = packet{kind: kind, speaks: noteVersion, boot: p.opts.Boot, views: views}
	q.fill(&p.out, now)
	p.high = max(p.high, q.seq)
	err := s.write(p.out.encode(p.outBuf[:]), q, now)
	p.sending(err, now)
}

// sending keeps book of send errors. While nothing can be sent nothing can be
// proven, so the end of a long failure counts as the end of a standstill.
func (p *Prober) sending(err error, now time.Time) {
	switch {
	case err == nil:
		p.count.sent.Add(1)
		if p.sendErr == "" {
			return
		}
		if now.Sub(p.sendErrSince) > p.opts.PauseGuard {
			p.pausedAt = now
		}
		p.opts.Logger.Debug("sending again", "took", now.Sub(p.sendErrSince))
		p.sendErr, p.sendErrSince, p.urgent = "", time.Time{}, true
		return
	case p.sendErr == "":
		p.sendErrSince, p.urgent = now, true
	}
	p.count.sendErrors.Add(1)
	p.sendErr = err.Error()
	if now.Sub(p.warnedAt) > 30*time.Second {
		p.warnedAt = now
		p.opts.Logger.Warn("send pulse", "err", err)
	}
}
