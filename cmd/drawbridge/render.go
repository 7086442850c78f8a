package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"drawbridge/agent/api"
)

// painter colours words, or leaves them alone.
type painter struct{ colour bool }

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[39m"
)

// painterFor colours on a terminal, unless NO_COLOR is set (no-color.org) or
// the terminal is dumb.
func painterFor(w io.Writer) painter {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return painter{}
	}
	st, err := f.Stat()
	return painter{colour: err == nil && st.Mode()&os.ModeCharDevice != 0}
}

// clear empties the screen of a terminal; elsewhere a line parts two prints.
func (p painter) clear() string {
	if p.colour {
		return "\x1b[H\x1b[2J"
	}
	return "\n"
}

// word colours text by the meaning of a state word.
func (p painter) word(text, state string) string {
	if !p.colour {
		return text
	}
	return colourOf(state) + text + plain
}

func colourOf(state string) string {
	switch state {
	case "ready", "up", "lit", "alive", "passing", "normal":
		return green
	case "starting", "undecided", "suspect", "known", "blind", "warning", "waiting", "ramp", "keep":
		return yellow
	case "degraded", "dark", "dead", "quarantined", "failing", "error":
		return red
	}
	return plain
}

// noColumn is a table without colour.
const noColumn = -1

// table aligns rows of cells and colours one column by its words; the first
// row may hold column names. Every cell of the coloured column gets a start and
// an end of the same length, so that tabwriter, which counts the bytes of an
// escape as letters, still aligns it.
func table(rows [][]string, p painter, coloured int) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			cell = or(oneLine(cell), "-")
			if i == coloured {
				state, _, _ := strings.Cut(cell, ",")
				cell = p.word(cell, state)
			}
			fmt.Fprint(tw, cell)
		}
		fmt.Fprintln(tw)
	}
	tw.Flush() //nolint:errcheck // a strings.Builder takes everything
	return b.String()
}

// oneLine keeps what others wrote in its place: one line, and nothing that a
// terminal would obey.
func oneLine(s string) string { return strings.Join(strings.Fields(printable(s)), " ") }

// printable defuses what a terminal would obey. Names, versions and the words
// of services come from other hosts.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// span prints a duration in at most two units: 80ms, 1.5s, 42s, 3m10s, 5h2m, 12d3h.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.2fms", d.Seconds()*1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 2*day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// spanOf prints a duration that may be unknown.
func spanOf(s *api.Seconds) string {
	if s == nil {
		return "-"
	}
	return span(s.Duration())
}

// ago prints how long before now a time was.
func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "never"
	}
	return span(max(0, now.Sub(*t))) + " ago"
}

// size prints bytes in powers of 1024.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f%ciB", v, "KMGTP"[unit])
}
