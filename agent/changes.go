package agent

import (
	"slices"
	"strconv"

	"drawbridge/agent/api"
	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

// changes lists what is different between two thoughts, in words: leader,
// verdicts, goal weights, members. The first thought (was nil) is compared with
// nothing known.
func changes(wasS, s *decide.Snapshot, was, is *decide.Plan) []api.Event {
	if was == nil {
		was = &decide.Plan{}
	}
	if wasS == nil {
		wasS = &decide.Snapshot{}
	}
	var out []api.Event
	if was.Leader != is.Leader {
		out = append(out, api.Event{
			Kind: "leader", Subject: "mesh", From: nameOf(s, was.Leader), To: nameOf(s, is.Leader), Reason: is.LeaderReason,
		})
	}
	out = append(out, verdictChanges(was.Sites, is.Sites)...)
	out = append(out, goalChanges(was.Routes, is.Routes)...)
	return append(out, memberChanges(wasS.Members, s.Members)...)
}

func verdictChanges(was, is []decide.SiteStatus) []api.Event {
	var out []api.Event
	for _, site := range is {
		from := decide.Verdict("")
		if i := slices.IndexFunc(was, func(o decide.SiteStatus) bool { return o.Site == site.Site }); i >= 0 {
			from = was[i].Verdict
		}
		if from != site.Verdict {
			out = append(out, api.Event{
				Kind: "verdict", Subject: site.Site, From: string(from), To: string(site.Verdict), Reason: site.Reason,
			})
		}
	}
	return out
}

func goalChanges(was, is []decide.RouteStatus) []api.Event {
	old := map[string]int{}
	for _, r := range was {
		for _, p := range r.Pools {
			old[r.Route+"/"+p.Pool] = p.Goal
		}
	}
	var out []api.Event
	for _, r := range is {
		for _, p := range r.Pools {
			key := r.Route + "/" + p.Pool
			from, known := old[key]
			if known && from == p.Goal {
				continue
			}
			e := api.Event{Kind: "goal", Subject: key, To: weightWord(p.Goal), Reason: p.Reason}
			if known {
				e.From = weightWord(from)
			}
			out = append(out, e)
		}
	}
	return out
}

func memberChanges(was, is []discovery.Member) []api.Event {
	old := map[discovery.NodeID]discovery.MemberState{}
	for _, m := range was {
		old[m.ID] = m.State
	}
	var out []api.Event
	for _, m := range is {
		if old[m.ID] != m.State {
			out = append(out, api.Event{Kind: "member", Subject: m.Name, From: string(old[m.ID]), To: string(m.State)})
		}
	}
	return out
}

// weightWord prints a goal weight; -1 is "keep".
func weightWord(w int) string {
	if w < 0 {
		return "keep"
	}
	return strconv.Itoa(w)
}

// nameOf is a node's label, or its short id, or nothing.
func nameOf(s *decide.Snapshot, id discovery.NodeID) string {
	for _, m := range s.Members {
		if m.ID == id {
			return m.Name
		}
	}
	return id.Short()
}
