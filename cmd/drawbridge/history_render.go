package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"drawbridge/agent/history"
)

// historyColumns is how wide a line of the history is at most.
const historyColumns = 100

// historyWords is how far the words of each column may be cut to get there;
// with two spaces between columns that is historyColumns.
var historyWords = [...]int{19, 18, 14, 11, 9, 19}

// renderHistory prints one line per event, in the time of a place.
func renderHistory(events []history.Event, header, wide bool, at *time.Location) string {
	if len(events) == 0 {
		return "no events\n"
	}
	var rows [][]string
	if header {
		rows = append(rows, []string{"TIME", "KIND", "SUBJECT", "CHANGE", "REASON", "ACTOR"})
	}
	for _, e := range events {
		rows = append(rows, []string{e.At.In(at).Format(time.DateTime), e.Kind, oneLine(e.Subject), change(e), oneLine(e.Reason), oneLine(e.Actor)})
	}
	if !wide {
		shortenIDs(rows)
		fitHistory(rows)
	}
	return table(rows, painter{}, noColumn)
}

// change says from what to what.
func change(e history.Event) string {
	from, to := oneLine(e.From), oneLine(e.To)
	switch {
	case from == "" && to == "":
		return ""
	case from == "":
		return "-> " + to
	case to == "":
		return from + " ->"
	}
	return from + " -> " + to
}

var longID = regexp.MustCompile(`\b[0-9a-f]{32,}\b`)

// shortenIDs leaves the first eight digits of ids, as everywhere for people.
func shortenIDs(rows [][]string) {
	for _, row := range rows {
		for i, cell := range row {
			row[i] = longID.ReplaceAllStringFunc(cell, func(id string) string { return id[:8] })
		}
	}
}

// fitHistory cuts words until every row takes at most historyColumns: always in
// the column that is the farthest above what it needs.
func fitHistory(rows [][]string) {
	const gap = 2
	var widths [len(historyWords)]int
	total := gap * (len(widths) - 1)
	for i := range widths {
		widths[i] = 1 // of "-"
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i]
	}
	for ; total > historyColumns; total-- {
		most := 0
		for i := range widths {
			if widths[i]-historyWords[i] > widths[most]-historyWords[most] {
				most = i
			}
		}
		widths[most]--
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = cutWord(cell, widths[i])
		}
	}
}

// cutWord keeps at most n characters, with a mark where some are missing.
func cutWord(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

func renderHistoryCheck(damage *history.DamageError) string {
	if damage == nil {
		return "whole: no event was changed or removed\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "damaged (%d)\n", damage.Count)
	for _, p := range damage.Places {
		fmt.Fprintf(&b, "  - %s\n", oneLine(p.String()))
	}
	if more := damage.Count - len(damage.Places); more > 0 {
		fmt.Fprintf(&b, "  - and %d more\n", more)
	}
	fmt.Fprintf(&b, "  next: %s\n", damage.NextStep())
	return b.String()
}
