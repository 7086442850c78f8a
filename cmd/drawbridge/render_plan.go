package main

import (
	"fmt"
	"strings"

	"drawbridge/agent/api"
)

// renderPlan prints one line per call. Who would send them comes first: a plan
// of a node that is not the leader stays a plan.
func renderPlan(p api.Plan) string {
	if len(p.Calls) == 0 {
		return "nothing to do\n"
	}
	noun := "calls"
	if len(p.Calls) == 1 {
		noun = "call"
	}
	head := fmt.Sprintf("%d %s, ", len(p.Calls), noun)
	switch {
	case p.Leader.Self:
		head += "due from this node\n\n"
	case p.Leader.ID == "":
		head += "held back: nobody is the leader" + inParens(p.Leader.Reason) + "\n\n"
	default:
		head += "left to the leader, " + leaderName(p.Leader) + "\n\n"
	}
	rows := [][]string{{"SERVICE", "ACTION", "OBJECT", "DETAIL", "REASON"}}
	for _, c := range p.Calls {
		rows = append(rows, []string{c.Service, c.Action, c.Object, c.Detail, c.Reason})
	}
	return head + table(rows, painter{}, noColumn)
}

// renderWhy prints the lines as the agent laid them out.
func renderWhy(w api.Why) string {
	var b strings.Builder
	for _, line := range w.Lines {
		b.WriteString(printable(strings.NewReplacer("\n", " ", "\r", " ").Replace(line)) + "\n")
	}
	return b.String()
}
