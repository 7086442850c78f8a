package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"drawbridge/agent/api"
)

// logger writes a lab's progress to a test's log.
type logger struct{ t *testing.T }

func (l logger) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

// raise brings a lab with a user up on loopback.
func raise(ctx context.Context, t *testing.T, opts Options) *scene {
	t.Helper()
	opts.Binary, opts.Mode, opts.Dir, opts.Out = buildBinary(t), Loopback, filepath.Join(shortDir(t), "lab"), logger{t}
	s, err := open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// await fails the test unless try succeeds within the patience.
func await(ctx context.Context, t *testing.T, what string, patience time.Duration, try func(context.Context) error) {
	t.Helper()
	began := time.Now()
	err := repeat(ctx, patience, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := try(ctx)
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: after %.1f s", what, time.Since(began).Seconds())
}

// TestLabRevoked revokes a server, which goes on running, and restarts
// everything: what all disks remember keeps it out.
func TestLabRevoked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := raise(ctx, t, Options{})
	plan := s.Map()
	server, rest := plan.Nodes[len(plan.Nodes)-1], plan.Nodes[:len(plan.Nodes)-1]
	m, err := s.member(ctx, plan.Nodes[0].Name, server.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Agent(plan.Nodes[0].Name).Command(ctx, "revoke", api.Command{Node: server.Name}, "lab"); err != nil {
		t.Fatal(err)
	}
	unknown := func(ctx context.Context) error {
		for _, n := range rest {
			st, err := s.Agent(n.Name).Status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if slices.ContainsFunc(st.Members, func(o api.Member) bool { return o.ID == m.ID }) {
				return fmt.Errorf("%s lists %s", n.Name, server.Name)
			}
		}
		return nil
	}
	await(ctx, t, "unknown everywhere", 10*time.Second, unknown)
	toldSo := func(ctx context.Context) error {
		st, err := s.Agent(server.Name).Status(ctx)
		if err != nil {
			return err
		}
		if !unwell(st, "revoked") {
			return fmt.Errorf("%s does not know that it is revoked: %+v", server.Name, st.Health)
		}
		return nil
	}
	await(ctx, t, "the revoked node knows it", time.Minute, toldSo)

	for _, n := range plan.Nodes {
		if err := s.crew.end(agentName(n.Name), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range plan.Nodes {
		if err := s.startAgent(n); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.plan.Nodes = rest
	s.mu.Unlock()
	if err := s.waitMesh(ctx); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "the revoked node knows it after a restart", time.Minute, toldSo)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err := unknown(ctx); err != nil {
			t.Fatalf("after a restart: %v", err)
		}
		st, err := s.Agent(server.Name).Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range st.Members {
			if o.ProofAge != nil || o.HandshakeAge != nil {
				t.Fatalf("the revoked node has a tunnel to %s", o.Name)
			}
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range plan.Gateways() {
		if err := s.noticed(ctx, n.Name, m.ID, "revoked", "operator"); err != nil {
			t.Error(err)
		}
	}
}

// unwell reports whether a finding of that code is in the health.
func unwell(st api.Status, code string) bool {
	return slices.ContainsFunc(st.Health, func(f api.Finding) bool { return f.Code == code })
}

// noticed checks that a node holds a notice about another.
func (l *Lab) noticed(ctx context.Context, node, about, kind, reason string) error {
	tr, err := l.Agent(node).Trust(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	if !slices.ContainsFunc(tr.Notices, func(n api.Notice) bool { return n.Node == about && n.Kind == kind && n.Reason == reason }) {
		return fmt.Errorf("%s has no notice %s (%s) about %s: %+v", node, kind, reason, about, tr.Notices)
	}
	return nil
}

// TestLabTrustMeasures makes each measurement of trust once, and small; how
// much is for people to read.
func TestLabTrustMeasures(t *testing.T) {
	binary := buildBinary(t)
	for _, args := range [][]string{
		{"revoke", "--runs", "1"},
		{"joins", "--for", "3s", "--joiners", "2"},
		{"flood", "--for", "3s", "--connections", "600"},
	} {
		t.Run(args[0], func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "lab")
			out := runLab(t, binary, 4*time.Minute, append([]string{"measure", "--json", "--mode", string(Loopback), "--dir", dir}, args...)...)
			var r Report
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("decode %q: %v", out, err)
			}
			if r.Runs != 1 || len(r.Figures) < 4 || len(r.Failures) > 0 {
				t.Errorf("%d runs, figures %+v, failures %v", r.Runs, r.Figures, r.Failures)
			}
		})
	}
}
