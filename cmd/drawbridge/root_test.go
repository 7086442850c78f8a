package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

// answer is what the stand-in for an agent says to one path.
type answer struct {
	code int // 0 means 200
	body any // a string goes out as it is
}

// standIn answers on a socket like an agent, from a table.
func standIn(t *testing.T, answers map[string]answer) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.URL.RequestURI()]
		switch {
		case !ok:
			t.Errorf("asked for %s", r.URL.RequestURI())
			w.WriteHeader(http.StatusNotFound)
			return
		case a.code != 0:
			w.WriteHeader(a.code)
		}
		if s, ok := a.body.(string); ok {
			fmt.Fprint(w, s)
			return
		}
		if err := json.NewEncoder(w).Encode(a.body); err != nil {
			t.Error(err)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return socket
}

// call runs one command line.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	healthy := roomIsDark()
	healthy.Self.State = "ready"
	ok := standIn(t, map[string]answer{
		"/v1/status":           {body: healthy},
		"/v1/members":          {body: api.Members{SchemaVersion: 1, Members: healthy.Members}},
		"/v1/why?subject=chat": {body: api.Why{SchemaVersion: 1, Subject: "chat", Lines: []string{"chat is normal", "because"}}},
		"/v1/plan":             {body: api.Plan{SchemaVersion: 1, Calls: []api.Call{}}},
		"/livez":               {body: api.Check{OK: true}},
		"/readyz":              {body: api.Check{OK: true}},
	})
	bad := standIn(t, map[string]answer{
		"/v1/status":        {body: roomIsDark()},
		"/v1/why?subject=x": {code: 404, body: `{"schema_version":1,"error":{"code":"unknown-subject","message":"nothing is called \"x\"","next":"ask about routes chat"}}`},
		"/v1/plan":          {code: 502, body: "bad gateway"},
		"/readyz":           {code: 503, body: api.Check{State: "starting", Reasons: []string{"no-device: not up"}}},
	})
	mute := filepath.Join(t.TempDir(), "mute.sock")
	ln, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	missing := filepath.Join(t.TempDir(), "missing.sock")

	for _, tt := range []struct {
		args   string
		code   int
		stdout string // parts that must be there; "" means nothing at all
		stderr string
	}{
		{"status --socket " + ok, 0, "gw-a  10.77.0.1", ""},
		{"status --json --socket " + ok, 0, `"schema_version": 1`, ""},
		{"status --check live --socket " + ok, 0, "live\n", ""},
		{"status --check ready --json --socket " + ok, 0, `"ok": true`, ""},
		{"members --socket " + ok, 0, "ADDRESS", ""},
		{"why chat --socket " + ok, 0, "chat is normal\nbecause\n", ""},
		{"plan --socket " + ok, 0, "nothing to do\n", ""},
		{"plan --json --socket " + ok, 0, `"calls": []`, ""},
		{"version", 0, "drawbridge ", ""},
		{"version --json", 0, `"schema_version": 1`, ""},
		{"--version", 0, "drawbridge ", ""},
		{"--help", 0, "Exit codes: 0 ok; 1 error", ""},
		{"completion bash", 0, "drawbridge", ""},

		{"why x --socket " + bad, 1, "", "nothing is called \"x\"\n  next: ask about routes chat"},
		{"plan --socket " + bad, 1, "", "not of a drawbridge agent"},

		{"stauts", 2, "", "Did you mean this?\n\tstatus"},
		{"completion bsah", 2, "", "Did you mean this?\n\tbash"},
		{"status extra", 2, "", "next: drawbridge status --help"},
		{"status --nope", 2, "", "unknown flag: --nope"},
		{"status --check fine", 2, "", "live or ready"},
		{"status --json --watch", 2, "", "json watch"},
		{"status --watch --interval 1ms", 2, "", "100ms"},
		{"members --name [", 2, "", "--name"},
		{"why", 2, "", "drawbridge why --help"},

		{"status --socket " + missing, 3, "", "the agent is not running"},
		{"members --socket " + missing, 3, "", "next: is `drawbridge agent` running? socket " + missing},

		{"status --socket " + bad, 4, "degraded", ""},
		{"status --json --socket " + bad, 4, `"state": "degraded"`, ""},
		{"status --check ready --socket " + bad, 4, "not ready (starting)\n  - no-device: not up\n", ""},

		{"status --timeout 20ms --socket " + mute, 5, "", "deadline exceeded"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := call(t, strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
			if !strings.Contains(stdout, tt.stdout) || (tt.stdout == "" && stdout != "") {
				t.Errorf("standard output %q, want %q", stdout, tt.stdout)
			}
			if !strings.Contains(stderr, tt.stderr) || (tt.stderr == "" && stderr != "") {
				t.Errorf("standard error %q, want %q", stderr, tt.stderr)
			}
		})
	}
}

func TestExitCodeOfErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"none", nil, 0},
		{"any", errors.New("any"), 1},
		{"usage", &exitError{code: exitUsage, err: errors.New("usage")}, 2},
		{"not running", fmt.Errorf("ask: %w", api.ErrNotRunning), 3},
		{"degraded, said already", &exitError{code: exitDegraded}, 4},
		{"deadline", fmt.Errorf("ask: %w", context.DeadlineExceeded), 5},
		{"deadline of a socket", fmt.Errorf("ask: %w", os.ErrDeadlineExceeded), 5},
		{"denied by the socket", fmt.Errorf("ask: %w", api.ErrDenied), 6},
		{"denied by a file", fmt.Errorf("read state: %w", fs.ErrPermission), 6},
		{"its own code wins", &exitError{code: exitDegraded, err: api.ErrDenied}, 4},
		{"interrupted", context.Canceled, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(tt.err); got != tt.want {
				t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestSocketPrecedence(t *testing.T) {
	socket := standIn(t, map[string]answer{"/livez": {body: api.Check{OK: true}}})
	for _, tt := range []struct {
		name, env string
		args      []string
		code      int
	}{
		{"environment", socket, nil, 0},
		{"flag before environment", "/nowhere", []string{"--socket", socket}, 0},
		{"wrong environment", "/nowhere", nil, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(socketEnv, tt.env)
			if code, _, stderr := call(t, append(tt.args, "status", "--check", "live")...); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, stderr)
			}
		})
	}
	t.Setenv(socketEnv, "")
	cmd := newRoot()
	if got := socketOf(cmd); got != "/run/drawbridge/agent.sock" {
		t.Errorf("default socket %q", got)
	}
}

func TestMembersFilters(t *testing.T) {
	socket := standIn(t, map[string]answer{"/v1/members": {body: api.Members{SchemaVersion: 1, Members: roomIsDark().Members}}})
	for _, tt := range []struct{ args, want string }{
		{"", "gw-a gw-b gpu-1 gpu-2"},
		{"--name gpu-*", "gpu-1 gpu-2"},
		{"--site aws", "gw-a gw-b"},
		{"--state dead", "gpu-2"},
		{"--site aws --state dead", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Fields("members --json --socket " + socket + " " + tt.args)
			code, stdout, stderr := call(t, args...)
			var ms api.Members
			if err := json.Unmarshal([]byte(stdout), &ms); err != nil || code != 0 {
				t.Fatalf("exit code %d, %v: %s", code, err, stderr)
			}
			var names []string
			for _, m := range ms.Members {
				names = append(names, m.Name)
			}
			if got := strings.Join(names, " "); got != tt.want || ms.Members == nil {
				t.Errorf("members %q (nil %t), want %q", got, ms.Members == nil, tt.want)
			}
		})
	}
	_, stdout, _ := call(t, "members", "--header=false", "--name", "gw-a", "--socket", socket)
	if want := "10.77.0.1  gw-a  aws  gateway  alive  self  -  -  -  -  -  -  -\n"; stdout != want {
		t.Errorf("without a header %q, want %q", stdout, want)
	}
}

// A newer agent may tell more than this binary knows: --json keeps it.
func TestJSONKeepsUnknownFields(t *testing.T) {
	socket := standIn(t, map[string]answer{"/v1/status": {body: `{"schema_version":1,"self":{"state":"ready"},"weather":"fine"}`}})
	code, stdout, _ := call(t, "status", "--json", "--socket", socket)
	if want := "{\n  \"schema_version\": 1,\n  \"self\": {\n    \"state\": \"ready\"\n  },\n  \"weather\": \"fine\"\n}\n"; stdout != want || code != 0 {
		t.Errorf("exit code %d, %q, want %q", code, stdout, want)
	}
}

func TestWatchEndsWhenInterrupted(t *testing.T) {
	socket := standIn(t, map[string]answer{"/v1/status": {body: roomIsDark()}})
	ctx, cancel := context.WithCancel(t.Context())
	out := &untilTwice{word: "Health:", done: cancel}
	var errs bytes.Buffer
	args := []string{"status", "--watch", "--interval", "100ms", "--socket", socket}
	if code := execute(ctx, args, out, &errs); code != 0 || errs.Len() > 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if out.seen < 2 {
		t.Errorf("printed %d times", out.seen)
	}
}

// untilTwice calls done when word was written twice.
type untilTwice struct {
	word string
	done func()
	seen int
}

func (u *untilTwice) Write(b []byte) (int, error) {
	if u.seen += strings.Count(string(b), u.word); u.seen >= 2 {
		u.done()
	}
	return len(b), nil
}

func TestCompletionOffersSubjects(t *testing.T) {
	socket := standIn(t, map[string]answer{"/v1/status": {body: roomIsDark()}})
	_, stdout, _ := call(t, "__complete", "--socket", socket, "why", "g")
	for _, want := range []string{"gw-a", "gw-b", "gpu-1", "gpu-2"} {
		if !strings.Contains(stdout, want+"\n") {
			t.Errorf("%s is not offered: %q", want, stdout)
		}
	}
	if strings.Contains(stdout, "chat") {
		t.Errorf("chat does not begin with g: %q", stdout)
	}
}

// Every verb has a short text, examples of use in its flags, and no flag
// without a description.
func TestEveryVerbIsDescribed(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short text", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestBuildVersion(t *testing.T) {
	if got := buildOf("v9.9.9").Version; got != "v9.9.9" {
		t.Errorf("linked version became %q", got)
	}
	if got := buildOf("").Version; got == "" {
		t.Error("no version in a plain build")
	}
	b := build{Version: "v1.0.0", Commit: "0123456789abcdef", Modified: true, Go: "go1.26", Platform: "linux/amd64"}
	if got, want := renderBuild(b), "drawbridge v1.0.0 commit 0123456789ab (modified) go1.26 linux/amd64\n"; got != want {
		t.Errorf("version %q, want %q", got, want)
	}
}

func TestReportNamesNextStep(t *testing.T) {
	var b strings.Builder
	report(&b, "drawbridge status", fmt.Errorf("outer: %w", &api.Error{Message: "inner", Next: "do this"}))
	report(&b, "drawbridge status", &exitError{code: exitDegraded})
	report(&b, "drawbridge status", nil)
	if got, want := b.String(), "drawbridge: outer: inner\n  next: do this\n"; got != want {
		t.Errorf("report %q, want %q", got, want)
	}
}

func TestGroupOfVerbsRefusesUnknown(t *testing.T) {
	was := commands
	defer func() { commands = was }()
	commands = append(append([]func() *cobra.Command{}, was...), func() *cobra.Command {
		group := &cobra.Command{Use: "fruit", Short: "A group of verbs"}
		group.AddCommand(&cobra.Command{Use: "create", Short: "Make one", RunE: func(*cobra.Command, []string) error { return nil }})
		return group
	})
	for args, want := range map[string]int{"fruit create": 0, "fruit": 0, "fruit craete": 2} {
		code, _, stderr := call(t, strings.Fields(args)...)
		if code != want {
			t.Errorf("%s: exit code %d, want %d: %s", args, code, want, stderr)
		}
		if code == 2 && !strings.Contains(stderr, "Did you mean this?\n\tcreate") {
			t.Errorf("%s: no suggestion in %q", args, stderr)
		}
	}
}
