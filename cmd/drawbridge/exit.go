package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"drawbridge/agent/api"
)

// The exit codes, as the help and the manual name them.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitDegraded   = 4 // degraded, or a check is false
	exitTimeout    = 5
	exitDenied     = 6
)

const exitHelp = `Exit codes: 0 ok; 1 error; 2 usage; 3 the agent is not running; 4 degraded, or
a check is false; 5 timeout; 6 not permitted.`

// exitError is an error that knows its exit code. A nil err is told by the
// code alone: the answer on standard output has said it all.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks a wrong command line that a verb itself found.
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}

// exitCode maps an error to the code that scripts rely on.
func exitCode(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, api.ErrNotRunning):
		return exitNotRunning
	case errors.Is(err, api.ErrDenied), errors.Is(err, fs.ErrPermission):
		return exitDenied
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// report tells a person what went wrong with a command and what to do next.
func report(w io.Writer, command string, err error) {
	var exit *exitError
	if err == nil || errors.As(err, &exit) && exit.err == nil {
		return
	}
	fmt.Fprintf(w, "drawbridge: %s\n", strings.TrimRight(err.Error(), "\n"))
	var next interface{ NextStep() string }
	switch {
	case errors.As(err, &next) && next.NextStep() != "":
		fmt.Fprintf(w, "  next: %s\n", next.NextStep())
	case exitCode(err) == exitUsage:
		fmt.Fprintf(w, "  next: %s --help\n", command)
	}
}
