package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/history"
)

type historyFlags struct {
	dir          string
	since, until string
	filter       history.Filter
	json, header bool
	wide, check  bool
}

func historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show what happened to tokens, certificates, keys and members here",
		Long: fmt.Sprintf(`Show what this host did to tokens, certificates, keys and members, when, why and
on whose word; the newest event last. It reads the state directory, so it works
without the agent, as the directory's owner. The oldest events go when the
history reaches 32 MiB.

A moment is a time ago (90s, 1h, 7d), a date, or a time as it is printed here or
by RFC 3339. Ids and long words are cut to fit %d columns; --wide leaves them
whole, and --json tells all details.

Every event carries a hash of the one before it. --check compares them; the exit
code is 4 when some were changed or removed. It cannot see that the newest were
cut away, nor what somebody did who wrote the whole history anew.`, historyColumns),
		Example: `  drawbridge history --since 7d --kind token-created --kind token-revoked
  drawbridge history --subject gpu-1 --json
  drawbridge history --check`,
		Args:    cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error { return f.resolve(time.Now()) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.check {
				return checkHistory(cmd.OutOrStdout(), f)
			}
			return showHistory(cmd.OutOrStdout(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.filter.Kinds, "kind", nil, "only events of this kind; repeatable")
	fl.StringVar(&f.filter.Subject, "subject", "", "only events of this node, token or key: a name, an id, or the first digits of one")
	fl.StringVar(&f.filter.Actor, "actor", "", "only events whose actor has this in it")
	fl.StringVar(&f.since, "since", "", "only events from this moment on")
	fl.StringVar(&f.until, "until", "", "only events before this moment")
	fl.IntVar(&f.filter.Last, "last", history.DefaultLast, fmt.Sprintf("only the newest so many of them, at most %d", history.MaxLast))
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.BoolVar(&f.header, "header", true, "print the line of column names")
	fl.BoolVar(&f.wide, "wide", false, "do not cut ids and long words")
	fl.BoolVar(&f.check, "check", false, "only check that no event was changed or removed")
	stateDirFlag(cmd, &f.dir)
	for _, name := range []string{"kind", "subject", "actor", "since", "until", "last"} {
		cmd.MarkFlagsMutuallyExclusive("check", name)
	}
	// These fail only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("kind", completeHistory(&f.dir, func(e history.Event) string { return e.Kind }))
	_ = cmd.RegisterFlagCompletionFunc("subject", completeHistory(&f.dir, func(e history.Event) string { return e.Subject }))
	return cmd
}

// resolve checks the flags and works out the moments.
func (f *historyFlags) resolve(now time.Time) (err error) {
	if f.filter.Last < 1 || f.filter.Last > history.MaxLast {
		return fmt.Errorf("--last %d: want 1 to %d", f.filter.Last, history.MaxLast)
	}
	if f.filter.Since, err = parseMoment(f.since, now); err != nil {
		return fmt.Errorf("--since %w", err)
	}
	if f.filter.Until, err = parseMoment(f.until, now); err != nil {
		return fmt.Errorf("--until %w", err)
	}
	return nil
}

// showHistory prints the events that can be read, and fails, degraded, if some
// cannot.
func showHistory(w io.Writer, f historyFlags) error {
	events, err := history.Read(f.dir, f.filter)
	var damage *history.DamageError
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	if f.json {
		err = printHistory(w, events, damage)
	} else {
		_, err = io.WriteString(w, renderHistory(events, f.header, f.wide, time.Local))
	}
	switch {
	case err != nil:
		return fmt.Errorf("print history: %w", err)
	case damage != nil:
		return &exitError{code: exitDegraded, err: damage}
	}
	return nil
}

func printHistory(w io.Writer, events []history.Event, damage *history.DamageError) error {
	out := struct {
		SchemaVersion int             `json:"schema_version"`
		Events        []history.Event `json:"events"`
		Damaged       int             `json:"damaged"` // lines that cannot be read
	}{SchemaVersion: 1, Events: events}
	if out.Events == nil {
		out.Events = []history.Event{}
	}
	if damage != nil {
		out.Damaged = damage.Count
	}
	return printValue(w, out)
}

// checkHistory says whether the history is whole; the exit code is degraded if
// it is not.
func checkHistory(w io.Writer, f historyFlags) error {
	err := history.Check(f.dir)
	var damage *history.DamageError
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	if f.json {
		err = printHistoryCheck(w, damage)
	} else {
		_, err = io.WriteString(w, renderHistoryCheck(damage))
	}
	switch {
	case err != nil:
		return fmt.Errorf("print check: %w", err)
	case damage != nil:
		return &exitError{code: exitDegraded}
	}
	return nil
}

func printHistoryCheck(w io.Writer, damage *history.DamageError) error {
	type place struct {
		File string `json:"file"`
		Line int    `json:"line"` // 0: the file as a whole
		What string `json:"what"`
	}
	out := struct {
		SchemaVersion int     `json:"schema_version"`
		OK            bool    `json:"ok"`
		Damaged       int     `json:"damaged"`
		Places        []place `json:"places"` // the first of them
	}{SchemaVersion: 1, OK: damage == nil, Places: []place{}}
	if damage != nil {
		out.Damaged = damage.Count
		for _, p := range damage.Places {
			out.Places = append(out.Places, place(p))
		}
	}
	return printValue(w, out)
}

// completeHistory offers the words of the newest events to the shell.
func completeHistory(dir *string, of func(history.Event) string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		events, _ := history.Read(*dir, history.Filter{}) // what cannot be read cannot be offered
		var words []string
		for _, e := range events {
			for word := range strings.FieldsSeq(of(e)) {
				if word == printable(word) && strings.HasPrefix(word, prefix) {
					words = append(words, word)
				}
			}
		}
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	}
}
