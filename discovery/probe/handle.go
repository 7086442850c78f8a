package probe

import (
	"errors"
	"net/netip"
	"time"
)

// handle takes in one datagram. What it keeps never aliases b.
func (p *Prober) handle(s *socket, b []byte, from netip.AddrPort, now time.Time) {
	q := p.peers[from.Addr()]
	if q == nil || from.Port() != p.opts.Port {
		p.count.strangers.Add(1)
		return
	}
	if len(b) > 0 && b[0] == noteVersion {
		p.noted(s, q, b, now)
		return
	}
	k := &p.in
	if err := k.decode(b); err != nil {
		if errors.Is(err, errVersion) {
			p.count.versions.Add(1)
		} else {
			p.count.malformed.Add(1)
		}
		return
	}
	p.count.received.Add(1)
	p.news = true
	first := q.proof.IsZero()
	proof, of := q.receive(k, p.opts.Boot, now)
	if proof && (first || q.mood != calm) {
		p.urgent = true
	}
	p.lived(q, of, now)
	p.hear(q, k.views, now)
	if k.kind == kindRequest || k.kind == kindPulse && q.Quiet && now.Sub(q.sentAt) >= quietEvery {
		p.answer(s, q, now)
	}
}

// lived counts and tells what the boot id of a packet showed.
func (p *Prober) lived(q *peer, of change, now time.Time) {
	switch of {
	case newLife:
		p.count.restarts.Add(1)
		p.opts.Logger.Info("peer restarted", "node", q.Node)
	case oldLife:
		p.count.forks.Add(1)
		if q.warned.IsZero() || now.Sub(q.warned) > forkWindow {
			q.warned = now
			p.opts.Logger.Warn("an earlier life of a peer speaks again: two processes use its identity; look for a copy of its state directory", "node", q.Node)
		}
	}
}

// hear takes in views. Only gateways that we tell ours may tell us theirs.
func (p *Prober) hear(q *peer, views []told, now time.Time) {
	if len(views) == 0 {
		return
	}
	if !q.Tell {
		p.count.viewsDropped.Add(uint64(len(views)))
		return
	}
	changed, dropped := q.hear(views, now)
	p.urgent = p.urgent || changed
	p.count.viewsDropped.Add(uint64(dropped))
}

func (p *Prober) answer(s *socket, q *peer, now time.Time) {
	if !q.mayAnswer(now) {
		p.count.unanswered.Add(1)
		return
	}
	if q.Quiet {
		q.sentAt = now
	}
	p.write(s, q, kindAnswer, nil, now)
}
