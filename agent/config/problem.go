package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong in a file.
type Problem struct {
	File string
	Line int // from 1; 0: of the file as a whole
	Col  int // from 1, in characters
	Text string
}

// String is file:line:col: text, which editors follow.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
}

// Error is everything that is wrong in a file, in the order of the file.
type Error struct{ Problems []Problem }

// Error prints one problem a line.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// position is a place in the file.
type position struct{ line, col int }

// maxProblems bounds what one bad file makes us print.
const maxProblems = 50

// reader collects what is wrong while a file is read.
type reader struct {
	file     string
	problems []Problem
}

func (r *reader) fail(at position, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.file, at.line, at.col, fmt.Sprintf(format, args...)})
}

// err is nil when nothing was wrong.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Col-b.Col)
	})
	if more := len(r.problems) - maxProblems; more > 0 {
		r.problems = append(r.problems[:maxProblems], Problem{File: r.file, Text: fmt.Sprintf("and %d more problems", more)})
	}
	return &Error{r.problems}
}
