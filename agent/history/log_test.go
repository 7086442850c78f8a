package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func noFailure(t *testing.T) func(Event, error) {
	return func(e Event, err error) { t.Errorf("%s: %v", e.Subject, err) }
}

func TestLog(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir)
	detail := map[string]string{"a": "1"}
	for i := range 3 {
		l.Append(Event{Kind: "k", Subject: fmt.Sprint(i), Detail: detail})
	}
	detail["a"] = "2" // is the caller's again
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx, noFailure(t)); err != nil {
		t.Error(err)
	}
	list := mustRead(t, dir)
	if got := subjects(list); got != "0 1 2" {
		t.Errorf("events %q", got)
	}
	for _, e := range list {
		if e.Detail["a"] != "1" {
			t.Errorf("detail %v", e.Detail)
		}
	}
}

// An event that is appended while Run runs is written without the end of Run.
func TestLogRuns(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, noFailure(t)) }()
	l.Append(Event{Kind: "k", Subject: "one"})
	for len(mustRead(t, dir)) == 0 && !t.Failed() {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What does not fit is counted and told.
func TestLogFull(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir)
	for i := range maxQueue + 3 {
		l.Append(Event{Kind: "k", Subject: fmt.Sprint(i)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ctx, noFailure(t))
	list := mustRead(t, dir)
	if got := subjects(list); len(list) != maxQueue+1 || !strings.HasPrefix(got, "events-lost 0 1 2") || list[0].Detail["events"] != "3" {
		t.Errorf("%d events %.40q, %v", len(list), got, list[0].Detail)
	}
}

// A disk that does not take events loses them, says so, and the number is
// written when it takes them again.
func TestLogDiskFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l := Open(dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var failed []string
	fail := func(e Event, err error) { failed = append(failed, e.Subject) }
	l.Append(Event{Kind: "k", Subject: "one"})
	l.Append(Event{Kind: "k", Subject: "two"})
	l.Run(ctx, fail)
	if got := strings.Join(failed, " "); got != "one" {
		t.Errorf("failed %q", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.Run(ctx, fail)
	list := mustRead(t, dir)
	if got := subjects(list); got != "events-lost two" || list[0].Detail["events"] != "1" {
		t.Errorf("events %q", got)
	}
}
