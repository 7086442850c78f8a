package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"drawbridge/agent/api"
)

// renderStatus lays out the status: self on the first line, then members,
// sites and routes, and last the health, the worst first. Ages count from the
// moment the agent answered.
func renderStatus(st api.Status, p painter) string {
	parts := []string{renderSelf(st, p), renderMembers(st.Members, true, p)}
	if len(st.Sites) > 0 {
		parts = append(parts, renderSites(st.Sites, st.At, p))
	}
	if len(st.Routes) > 0 {
		parts = append(parts, renderRoutes(st.Routes, st.At, p))
	}
	parts = append(parts, renderHealth(st.Health, p))
	return strings.Join(parts, "\n")
}

func renderSelf(st api.Status, p painter) string {
	s := st.Self
	lines := fmt.Sprintf("%s  %s  %s in %s  mesh %s  %s\n",
		or(s.Name, "(no name)"), or(s.Addr, "(no address)"), or(s.Role, "(no role)"),
		or(s.Site, "(no site)"), or(s.Mesh, "(no name)"), p.word(oneLine(s.State), s.State))
	facts := []string{"leader " + leaderName(st.Leader)}
	if s.Backend != "" {
		facts = append(facts, "backend "+oneLine(s.Backend)+inParens(s.BackendReason))
	}
	if s.Version != "" {
		facts = append(facts, "version "+oneLine(s.Version))
	}
	if s.NotAfter != nil {
		left := s.NotAfter.Sub(st.At)
		if left > 0 {
			facts = append(facts, "certificate ends in "+span(left))
		} else {
			facts = append(facts, "certificate ended "+span(-left)+" ago")
		}
	}
	return lines + strings.Join(facts, ", ") + "\n"
}

func leaderName(l api.Leader) string {
	switch {
	case l.ID == "":
		return "nobody" + inParens(l.Reason)
	case l.Self:
		return "this node"
	}
	return or(l.Name, l.ID)
}

func renderMembers(ms []api.Member, header bool, p painter) string {
	var rows [][]string
	if header {
		rows = append(rows, []string{
			"ADDRESS", "NAME", "SITE", "ROLE", "STATE", "PATH",
			"MTU", "HANDSHAKE", "PROOF", "RTT", "RX", "TX", "SERVICES",
		})
	}
	for _, m := range ms {
		rx, tx := size(m.Rx), size(m.Tx)
		if m.Path == "self" {
			rx, tx = "-", "-"
		}
		state := m.State
		if m.Draining {
			state += ",draining"
		}
		rows = append(rows, []string{
			m.Addr, m.Name, m.Site, m.Role, state, m.Path, mtuOf(m),
			spanOf(m.HandshakeAge), spanOf(m.ProofAge), spanOf(m.RTT), rx, tx, services(m.Services),
		})
	}
	if len(ms) == 0 {
		return "no members\n"
	}
	return table(rows, p, 4)
}

// mtuOf is the largest packet to a member, and where that is from.
func mtuOf(m api.Member) string {
	if m.MTU == 0 {
		return "-"
	}
	s := fmt.Sprintf("%d %s", m.MTU, oneLine(m.MTUState))
	if m.BlackHole != nil {
		s += ", black hole"
	}
	return s
}

func services(list []api.Service) string {
	var words []string
	for _, s := range list {
		w := fmt.Sprintf("%s:%d %s", s.Name, s.Port, s.Check)
		if s.Capacity != 1 {
			w += fmt.Sprintf(" x%d", s.Capacity)
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

func renderSites(sites []api.Site, now time.Time, p painter) string {
	rows := [][]string{{"SITE", "VERDICT", "REASON", "SINCE", "PROVEN", "LAST SEEN", "VIEWS"}}
	for _, s := range sites {
		var views []string
		for _, v := range s.Views {
			views = append(views, v.Observer+" "+v.State)
		}
		since := "-"
		if s.Since != nil {
			since = ago(now, s.Since)
		}
		rows = append(rows, []string{
			s.Site, s.Verdict, s.Reason, since,
			fmt.Sprintf("%d of %d", s.Proven, s.Nodes), ago(now, s.LastSeen), strings.Join(views, ", "),
		})
	}
	return table(rows, p, 1)
}

func renderRoutes(routes []api.Route, now time.Time, p painter) string {
	rows := [][]string{{"ROUTE", "STATE", "POOL", "SITE", "NOW", "GOAL", "NORMAL", "HEALTHY", "REASON", "NEXT"}}
	for _, r := range routes {
		next := "-"
		if r.Until != nil {
			next = "in " + span(max(0, r.Until.Sub(now)))
		}
		for i, pool := range r.Pools {
			name, state := r.Route, r.State
			if i > 0 {
				name, state, next = `"`, `"`, "-"
			}
			rows = append(rows, []string{
				name, state, pool.Pool, or(pool.Site, "(outside)"),
				number(pool.Now, "?"), number(pool.Goal, "keep"), strconv.Itoa(pool.Normal),
				number(pool.Healthy, "?") + " of " + number(pool.Registered, "?"), pool.Reason, next,
			})
		}
	}
	return table(rows, p, 1)
}

func renderHealth(found []api.Finding, p painter) string {
	if len(found) == 0 {
		return "Health: nothing to report\n"
	}
	var b strings.Builder
	b.WriteString("Health:\n")
	for _, f := range found {
		fmt.Fprintf(&b, "  - %s %s", p.word(oneLine(f.Severity), f.Severity), oneLine(f.Code))
		if f.Subject != "" {
			fmt.Fprintf(&b, " (%s)", oneLine(f.Subject))
		}
		fmt.Fprintf(&b, ": %s\n", oneLine(f.Text))
		if f.Next != "" {
			fmt.Fprintf(&b, "    next: %s\n", oneLine(f.Next))
		}
	}
	return b.String()
}

func renderCheck(what string, c api.Check) string {
	if c.OK {
		return what + "\n"
	}
	out := "not " + what + inParens(c.State) + "\n"
	for _, r := range c.Reasons {
		out += "  - " + oneLine(r) + "\n"
	}
	return out
}

// number prints a count of which -1 has a word.
func number(n int, unknown string) string {
	if n < 0 {
		return unknown
	}
	return strconv.Itoa(n)
}

func inParens(s string) string {
	if s == "" {
		return ""
	}
	return " (" + oneLine(s) + ")"
}

// or is what a person reads where there may be nothing.
func or(s, other string) string {
	if s = oneLine(s); s == "" {
		return other
	}
	return s
}
