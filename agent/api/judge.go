package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

const (
	// startGrace is how long an agent may be starting before it is degraded:
	// a handshake with a gateway that just lost us can take 15 s, twice.
	startGrace = 30 * time.Second
	// proofFresh is the age up to which an answered pulse shows that traffic
	// passes: well above the slowest pulse (5 s, a server on demand).
	proofFresh = 10 * time.Second
	// sessionLife is how long a WireGuard session carries data after its
	// handshake (REJECT_AFTER_TIME, WireGuard paper, section 6.1).
	sessionLife = 180 * time.Second
	// failsShown is how many failures in a row make a hand a finding: one or
	// two are what retries are for.
	failsShown = 3
)

// judgement is how the agent is.
type judgement struct {
	state    string
	obstacle *Finding // why it cannot carry traffic; nil when it can
	found    []Finding
}

// judge says how the agent is, whether it can carry traffic, and what there is
// to tell a person, worst first.
func judge(m moment) judgement {
	j := judgement{state: StateReady, obstacle: obstacleOf(m)}
	j.found = make([]Finding, 0, len(m.plan.Health)+2)
	for _, h := range m.plan.Health {
		j.found = append(j.found, Finding{
			Code: h.Code, Severity: string(h.Severity), Subject: h.Subject, Text: h.Text, Next: h.Next,
		})
	}
	for _, o := range m.outcomes {
		if o.Fails >= failsShown {
			j.found = append(j.found, handFailing(o.Hand, o.Fails, o.Err))
		}
	}
	starting := j.obstacle != nil && m.now.Sub(m.info.Started) < startGrace
	if j.obstacle != nil {
		if starting {
			j.obstacle.Severity = string(decide.Note)
		}
		if !explained(j.found, j.obstacle.Code) {
			j.found = append(j.found, *j.obstacle)
		}
	}
	slices.SortStableFunc(j.found, func(a, b Finding) int {
		return cmp.Compare(rank(a.Severity), rank(b.Severity))
	})
	switch {
	case starting:
		j.state = StateStarting
	case len(j.found) > 0 && j.found[0].Severity == string(decide.Broken):
		j.state = StateDegraded
	}
	return j
}

// explained reports whether the plan already names the cause: a server that no
// gateway answers needs no second line saying that nobody does.
func explained(found []Finding, code string) bool {
	return code == "no-peer-answers" && slices.ContainsFunc(found, func(f Finding) bool { return f.Code == "no-gateway" })
}

// obstacleOf is why the agent cannot carry traffic; nil when it can.
func obstacleOf(m moment) *Finding {
	f := &Finding{Severity: string(decide.Broken), Subject: m.snap.Self.Name}
	switch {
	case !m.decided:
		f.Code, f.Text = "no-decision", "the agent has not decided anything yet"
		f.Next = "wait; if it lasts, read the agent's log"
	case m.snap.Device == nil:
		f.Code, f.Text = "no-device", "the tunnel device has not come up"
		f.Next = "read the agent's log for the cause; the netstack backend needs no privilege"
	case !reachesAnyone(m):
		f.Code, f.Text = "no-peer-answers", "no other node answers through the tunnel"
		f.Next = "check that UDP to a gateway's endpoint is open, and the clock of this host"
	default:
		return nil
	}
	return f
}

// reachesAnyone reports whether some other node has just answered. A mesh of
// one has nobody to reach. Answered pulses are the better evidence and decide
// as soon as there are any; before that, a living session does.
func reachesAnyone(m moment) bool {
	others := 0
	for _, r := range m.snap.Members {
		if r.ID != m.snap.Self.ID && r.State != discovery.StateLeft {
			others++
		}
	}
	if others == 0 {
		return true
	}
	proven := false
	for _, o := range m.snap.Sight.Observations {
		if o.Proof.IsZero() {
			continue
		}
		if m.now.Sub(o.Proof) <= proofFresh {
			return true
		}
		proven = true
	}
	if proven || m.snap.Device == nil {
		return false
	}
	for _, p := range m.snap.Device.Peers {
		if !p.LastHandshake.IsZero() && m.now.Sub(p.LastHandshake) <= sessionLife {
			return true
		}
	}
	return false
}

func handFailing(hand string, fails int, err string) Finding {
	return Finding{
		Code: "hand-failing", Severity: string(decide.Warning), Subject: hand,
		Text: fmt.Sprintf("%d attempts in a row failed: %s", fails, err),
		Next: "what is there is kept and the attempt repeated; remove the cause named here",
	}
}

// rank orders severities, worst first; an unknown word comes last.
func rank(severity string) int {
	switch decide.Severity(severity) {
	case decide.Broken:
		return 0
	case decide.Warning:
		return 1
	case decide.Note:
		return 2
	}
	return 3
}

// checkOf makes the answer of /readyz.
func checkOf(m moment) Check {
	j := judge(m)
	c := Check{SchemaVersion: SchemaVersion, OK: j.obstacle == nil, State: j.state, Reasons: []string{}}
	if j.obstacle != nil {
		c.Reasons = append(c.Reasons, fmt.Sprintf("%s: %s", j.obstacle.Code, j.obstacle.Text))
	}
	return c
}
