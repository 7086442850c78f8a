package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

// serve runs a server until the test ends, and returns a client of it.
func serve(t *testing.T, src Source) (*Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	stop := start(t, Options{Socket: socket, Source: src, Explain: explain})
	t.Cleanup(stop)
	return NewClient(socket), socket
}

// explain knows one subject.
func explain(p *decide.Plan, _ *decide.Snapshot, subject string) ([]string, bool) {
	if subject != "route chat" {
		return nil, false
	}
	return []string{"chat is " + p.Routes[0].State}, true
}

func start(t *testing.T, opts Options) (stop func()) {
	t.Helper()
	s := New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("Run = %v before it was ready", err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil on cancel", err)
		}
	}
}

func TestServerAnswersClient(t *testing.T) {
	h := roomGoesDark()
	now := time.Now()
	h.info.Started = now.Add(-time.Hour)
	h.snap.Sight.Observations[0].Proof = now
	h.journal.Add(Event{At: noon, Kind: KindVerdict, Subject: "idc-seoul", From: "up", To: "dark", Reason: discovery.ReasonAllDark, Took: 1.25})
	h.calls = func(context.Context) ([]discovery.Call, error) {
		return []discovery.Call{{Service: "elasticloadbalancing", Action: "ModifyRule", Object: "arn:rule", Detail: "gpu 100 to 0", Reason: discovery.ReasonSiteDark}}, nil
	}
	c, socket := serve(t, h)
	ctx := t.Context()

	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.SchemaVersion != 1 || st.Self.Name != "gw-a" || st.Self.State != StateDegraded || len(st.Members) != 5 ||
		st.Sites[0].Verdict != "dark" || st.Routes[0].Pools[0].Goal != 0 || st.Leader.Name != "gw-a" {
		t.Errorf("status = %+v", st)
	}

	ms, err := c.Members(ctx)
	if err != nil || len(ms.Members) != 5 || ms.SchemaVersion != 1 {
		t.Errorf("members = %+v, %v", ms, err)
	}

	w, err := c.Why(ctx, "route chat")
	if diff := cmp.Diff(Why{1, "route chat", []string{"chat is dark"}}, w); diff != "" || err != nil {
		t.Errorf("why: %v (-want +got):\n%s", err, diff)
	}

	p, err := c.Plan(ctx)
	wantPlan := Plan{
		SchemaVersion: 1, Leader: Leader{ID: "b0000000000000000000000000000000", Name: "gw-a", Self: true, Reason: "normal"},
		Calls: []Call{{"elasticloadbalancing", "ModifyRule", "arn:rule", "gpu 100 to 0", "site-dark"}},
	}
	if diff := cmp.Diff(wantPlan, p); diff != "" || err != nil {
		t.Errorf("plan: %v (-want +got):\n%s", err, diff)
	}

	ev, err := c.Events(ctx, 0)
	wantEvents := Events{SchemaVersion: 1, Last: 1, Events: []Event{{
		Seq: 1, At: noon, Kind: "verdict", Subject: "idc-seoul", From: "up", To: "dark", Reason: "all-dark", Took: 1.25,
	}}}
	if diff := cmp.Diff(wantEvents, ev); diff != "" || err != nil {
		t.Errorf("events: %v (-want +got):\n%s", err, diff)
	}
	if ev, err = c.Events(ctx, ev.Last); err != nil || len(ev.Events) != 0 || ev.Last != 1 {
		t.Errorf("events after the last = %+v, %v", ev, err)
	}

	if live, err := c.Live(ctx); err != nil || !live.OK {
		t.Errorf("live = %+v, %v", live, err)
	}
	if r, err := c.Readiness(ctx); err != nil || !r.OK || r.State != StateDegraded {
		t.Errorf("ready = %+v, %v: a dark site elsewhere is no reason", r, err)
	}

	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got.Perm() != 0o660 || got&fs.ModeSocket == 0 {
		t.Errorf("socket has mode %v, want 0660", got)
	}
}

func TestReadinessFalseIsNoError(t *testing.T) {
	h := &house{info: Info{Started: time.Now().Add(-time.Hour)}}
	c, _ := serve(t, h)
	got, err := c.Readiness(t.Context())
	want := Check{SchemaVersion: 1, State: StateDegraded, Reasons: []string{"no-decision: the agent has not decided anything yet"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("readiness: %v (-want +got):\n%s", err, diff)
	}
}

func TestServerRefuses(t *testing.T) {
	h := roomGoesDark()
	h.calls = func(context.Context) ([]discovery.Call, error) { return nil, discovery.ErrThrottled }
	c, _ := serve(t, h)
	for _, tt := range []struct {
		path   string
		status int
		code   string
		next   string // a part of it
	}{
		{"/v1/why?subject=nobody", 404, "unknown-subject", "routes chat; sites idc-seoul; nodes gw-a, gw-b"},
		{"/v1/why", 400, "no-subject", "ask about"},
		{"/v1/plan", 502, "aws-unread", "credentials"},
		{"/v1/events?since=-1", 400, "bad-since", "number"},
		{"/v2/status", 404, "no-such-request", "versions"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			_, err := c.Raw(t.Context(), tt.path)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("err = %v, want an *Error", err)
			}
			if e.Status != tt.status || e.Code != tt.code || !strings.Contains(e.Next, tt.next) {
				t.Errorf("refused with %+v, want %+v", *e, tt)
			}
		})
	}
}

func TestWhyBeforeDecision(t *testing.T) {
	c, _ := serve(t, &house{})
	_, err := c.Why(t.Context(), "route chat")
	var e *Error
	if !errors.As(err, &e) || e.Status != 503 || e.Code != "no-decision" {
		t.Errorf("err = %v, want no-decision", err)
	}
}

// Every request but a reading one is refused, on every path.
func TestServerHasNoHands(t *testing.T) {
	s := New(Options{Source: roomGoesDark()})
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/v1/status", "/v1/plan", "/v1/weights", "/livez", "/"} {
			rec := &recorder{header: http.Header{}}
			req, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			s.handler().ServeHTTP(rec, req)
			var f failure
			if err := json.Unmarshal(rec.body.Bytes(), &f); err != nil || f.Error == nil {
				t.Fatalf("%s %s: %q, %v", method, path, rec.body.String(), err)
			}
			if rec.code != 405 || f.Error.Code != "read-only" || f.SchemaVersion != 1 {
				t.Errorf("%s %s: %d %+v", method, path, rec.code, f.Error)
			}
		}
	}
}

type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestServerStopsDuringRequest(t *testing.T) {
	h := roomGoesDark()
	asked := make(chan struct{})
	var once sync.Once
	h.calls = func(ctx context.Context) ([]discovery.Call, error) {
		once.Do(func() { close(asked) })
		<-ctx.Done() // AWS does not answer
		return nil, ctx.Err()
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := start(t, Options{Socket: socket, Source: h})
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewClient(socket).Plan(context.Background()) //nolint:errcheck // any answer will do
	}()
	<-asked
	stop()
	<-done
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket is left behind: %v", err)
	}
}

func TestSocketOfLivingAgentIsRefused(t *testing.T) {
	c, socket := serve(t, roomGoesDark())
	err := New(Options{Socket: socket, Source: roomGoesDark()}).Run(t.Context())
	if !errors.Is(err, ErrSocketTaken) || !strings.Contains(err.Error(), socket) {
		t.Errorf("second Run = %v, want ErrSocketTaken with the path", err)
	}
	if _, err := c.Live(t.Context()); err != nil {
		t.Errorf("the first agent lost its socket: %v", err)
	}
}

func TestSocketOfDeadAgentIsTakenOver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	leaveStale(t, socket)
	stop := start(t, Options{Socket: socket, Source: roomGoesDark()})
	defer stop()
	if _, err := NewClient(socket).Live(t.Context()); err != nil {
		t.Error(err)
	}
}

// leaveStale makes the socket file of a process that was killed.
func leaveStale(t *testing.T, socket string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

func TestSocketLeavesOtherFilesAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Options{Socket: file, Source: roomGoesDark()}).Run(t.Context()); err == nil {
		t.Error("Run took the place of a file that is no socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("file = %q, %v", b, err)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	err := New(Options{Socket: "/tmp/" + strings.Repeat("x", 120), Source: roomGoesDark()}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "shorter --socket") {
		t.Errorf("err = %v, want the next step", err)
	}
}

// An agent that stops late does not remove the socket of its successor.
func TestReleaseKeepsSuccessorsSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := start(t, Options{Socket: socket, Source: roomGoesDark()})
	// Renamed, not removed: the successor's file must not get the same inode.
	if err := os.Rename(socket, socket+".old"); err != nil {
		t.Fatal(err)
	}
	stopNext := start(t, Options{Socket: socket, Source: roomGoesDark()})
	defer stopNext()
	stop()
	if _, err := NewClient(socket).Live(t.Context()); err != nil {
		t.Errorf("the successor lost its socket: %v", err)
	}
}

func TestClientWithoutAgent(t *testing.T) {
	dir := t.TempDir()
	missing, dead, file := filepath.Join(dir, "missing.sock"), filepath.Join(dir, "dead.sock"), filepath.Join(dir, "file")
	leaveStale(t, dead)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{missing, dead, file} {
		_, err := NewClient(socket).Status(t.Context())
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: err = %v, want ErrNotRunning", filepath.Base(socket), err)
			continue
		}
		var next interface{ NextStep() string }
		if !errors.As(err, &next) || next.NextStep() != "is `drawbridge agent` running? socket "+socket {
			t.Errorf("%s: err = %#v has no next step", filepath.Base(socket), err)
		}
	}
}

func TestClientDenied(t *testing.T) {
	c := NewClient("/some.sock")
	err := c.explain(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", fs.ErrPermission)})
	if !errors.Is(err, ErrDenied) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("err = %v, want ErrDenied", err)
	}
}

func TestClientTimesOut(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket) // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewClient(socket).Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want a deadline", err)
	}
}

func TestClientOfSomethingElse(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hello", http.StatusTeapot) }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	if _, err := NewClient(socket).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "not of a drawbridge agent") {
		t.Errorf("err = %v", err)
	}
}
