package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// labEnv allows the tests that run the whole lab, with a process per agent and
// about a minute each.
const labEnv = "DRAWBRIDGE_LAB"

// TestLabDemo runs the whole story as a user would, on both grounds, and holds
// its figures against the promises.
func TestLabDemo(t *testing.T) {
	binary := buildBinary(t)
	for _, mode := range []Mode{Namespaces, Loopback} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == Namespaces {
				if err := CheckNamespaces(t.Context()); err != nil {
					t.Skipf("no namespaces here: %v", err)
				}
			}
			dir := shortDir(t)
			out := runLab(t, binary, 4*time.Minute, "demo", "--json", "--mode", string(mode), "--dir", filepath.Join(dir, "lab"))
			var tl Timeline
			if err := json.Unmarshal(out, &tl); err != nil {
				t.Fatalf("decode %q: %v", out, err)
			}
			if err := tl.broken(); err != nil {
				t.Error(err)
			}
			if tl.Written == nil || *tl.Written > 3 {
				t.Errorf("weight written after %s, want at most 3 s", after(tl.Written))
			}
			if tl.Requests < 10*userRate {
				t.Errorf("only %d requests were sent", tl.Requests)
			}
		})
	}
}

// TestLabThroughput measures once; how much is for people to read.
func TestLabThroughput(t *testing.T) {
	binary := buildBinary(t)
	if err := CheckNamespaces(t.Context()); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	dir := filepath.Join(shortDir(t), "lab")
	out := runLab(t, binary, 4*time.Minute, "measure", "throughput", "--runs", "1", "--json", "--mode", string(Namespaces), "--dir", dir)
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("decode %q: %v", out, err)
	}
	if len(r.Figures) != 8 || len(r.Failures) > 0 {
		t.Errorf("%d figures, want 8; failures %v", len(r.Figures), r.Failures)
	}
	for _, f := range r.Figures {
		if !(f.Worst() > 0) {
			t.Errorf("%s is %v", f.Name, f.Values)
		}
	}
}

// TestLabOverlay gives our tunnel and bare WireGuard one turn each on a cable,
// and holds what even a busy machine keeps.
func TestLabOverlay(t *testing.T) {
	binary := buildBinary(t)
	if err := CheckNamespaces(t.Context()); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	dir := filepath.Join(shortDir(t), "lab")
	out := runLab(t, binary, 2*time.Minute, "measure", "overlay", "--only", bareGo+","+oursTUN, "--runs", "1", "--json", "--mode", string(Namespaces), "--dir", dir)
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("decode %q: %v", out, err)
	}
	if len(r.Failures) > 0 {
		t.Fatalf("failures %v", r.Failures)
	}
	seen := 0
	for _, f := range r.Figures {
		t.Logf("%s: %v %s", f.Name, f.Values, f.Unit)
		switch f.Name {
		case oursTUN + " to " + bareGo + ": 64-byte packets":
			if seen++; f.Median() < 1.2 {
				t.Errorf("%v times the packets of bare WireGuard, want more than 1.2 even here", f.Median())
			}
		case oursTUN + " to " + bareGo + ": ping p50 under a stream":
			if seen++; f.Median() > 0.8 {
				t.Errorf("%v of bare WireGuard's ping under a stream, want less than 0.8 even here", f.Median())
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d of 2 ratios", seen)
	}
}

// TestLabControl brings a lab up and speaks to its control socket.
func TestLabControl(t *testing.T) {
	binary := buildBinary(t)
	dir := filepath.Join(shortDir(t), "lab")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var log bytes.Buffer
	cmd := labCommand(ctx, binary, "up", "--mode", string(Loopback), "--dir", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	err := repeat(ctx, 2*time.Minute, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case err := <-done:
			t.Fatalf("the lab has ended: %v\n%s", err, log.String())
		default:
		}
		err := Tell(ctx, dir, VerbPause, "gpu-3")
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, say := range [][]string{
		{VerbResume, "gpu-3"},
		{VerbKill, "gpu-3"},
		{VerbStart, "gpu-3"},
		{VerbLoss, SiteRoom, "20"},
		{VerbCut, SiteRoom},
		{VerbHeal, SiteRoom},
	} {
		if err := Tell(ctx, dir, say[0], say[1:]...); err != nil {
			t.Errorf("%v: %v", say, err)
		}
	}
	for _, say := range [][]string{{VerbCut, "moon"}, {VerbKill, "gpu-9"}, {VerbLoss, SiteRoom, "many"}, {"dance", ""}} {
		if err := Tell(ctx, dir, say[0], say[1:]...); err == nil {
			t.Errorf("%v: want an error", say)
		}
	}
	if err := Tell(ctx, dir, VerbStop); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the lab ended with %v\n%s", err, log.String())
	}
	if err := Tell(ctx, dir, VerbStop); err == nil {
		t.Error("nobody should answer any more")
	}
}

func buildBinary(t *testing.T) string {
	t.Helper()
	if env := os.Getenv(labEnv); env != "1" && env != "long" {
		t.Skipf("set %s=1 to run the whole lab (about a minute for each ground)", labEnv)
	}
	binary := filepath.Join(t.TempDir(), "drawbridge")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "drawbridge/cmd/drawbridge").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// runLab runs a verb of the lab to its end and returns its standard output.
func runLab(t *testing.T, binary string, patience time.Duration, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, log bytes.Buffer
	cmd := labCommand(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	t.Logf("%s", log.String())
	if err != nil {
		t.Fatalf("lab %v: %v", args, err)
	}
	return out.Bytes()
}

// labCommand ends with ctx as with Ctrl-C, and for good a little later.
func labCommand(ctx context.Context, binary string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, append([]string{"lab"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// shortDir is a temporary directory that is short enough for unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
