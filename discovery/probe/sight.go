package probe

import (
	"cmp"
	"slices"
	"time"

	"drawbridge/discovery"
)

const (
	// The least time between reports, however urgent: a gateway whose views
	// flicker must not set our pace.
	leastReport = 5 * time.Millisecond
	// A view that was not repeated for so long is no longer reported.
	forgetView = time.Minute
)

// reportDue is when the next report goes out if no more news comes.
func (p *Prober) reportDue() time.Time {
	wait := restReport
	switch {
	case p.urgent:
		wait = leastReport
	case p.news && len(p.groups) > 0:
		wait = min(p.opts.ReportEvery, restReport)
	}
	return p.reportedAt.Add(wait)
}

// report tells what was seen, when that is due.
func (p *Prober) report(now time.Time) {
	if now.Before(p.reportDue()) {
		return
	}
	p.reportedAt, p.news, p.urgent = now, false, false
	p.opts.Report(p.sight(now), p.views(now))
}

func (p *Prober) sight(now time.Time) discovery.Sight {
	s := discovery.Sight{
		Started: p.started, At: now, Paused: p.pausedAt,
		SendErr: p.sendErr, SendErrSince: p.sendErrSince,
		Observations: make([]discovery.Observation, 0, len(p.sorted)),
	}
	for _, q := range p.sorted {
		s.Observations = append(s.Observations, q.observation(now))
	}
	return s
}

// views is what other gateways told, the newest of each observer and site.
func (p *Prober) views(now time.Time) []discovery.View {
	var all []discovery.View
	for _, q := range p.sorted {
		q.views = slices.DeleteFunc(q.views, func(v discovery.View) bool {
			return now.Sub(v.Heard) > forgetView
		})
		all = append(all, q.views...)
	}
	slices.SortFunc(all, func(a, b discovery.View) int {
		return cmp.Or(cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Site, b.Site))
	})
	return all
}
