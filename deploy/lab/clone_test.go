package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"drawbridge/agent/api"
)

// TestLabClone runs a second agent with a copy of a running server's state
// directory: both gateways set the identity apart by themselves, and a person
// takes it back once the copy is gone.
func TestLabClone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := raise(ctx, t, Options{})
	plan := s.Map()
	server := plan.Nodes[len(plan.Nodes)-1]
	m, err := s.member(ctx, plan.Nodes[0].Name, server.Name)
	if err != nil {
		t.Fatal(err)
	}
	startCopy(ctx, t, s, server)

	await(ctx, t, "set apart by both gateways", 30*time.Second, func(ctx context.Context) error {
		for _, n := range plan.Gateways() {
			st, err := s.Agent(n.Name).Status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			o, _ := s.member(ctx, n.Name, server.Name)
			if o.State != "quarantined" || o.Path != "none" || !unwell(st, "quarantined") {
				return fmt.Errorf("%s calls %s %q with path %q, health %+v", n.Name, server.Name, o.State, o.Path, st.Health)
			}
			if err := s.noticed(ctx, n.Name, m.ID, "quarantined", "clone"); err != nil {
				return err
			}
		}
		return nil
	})
	servers := len(plan.Nodes) - len(plan.Gateways())
	await(ctx, t, "no target of the load balancer", 30*time.Second, func(ctx context.Context) error {
		return s.registered(ctx, servers-1)
	})
	await(ctx, t, "no request reaches it, and none fails", 30*time.Second, func(context.Context) error {
		return s.answers(server.Name, false)
	})

	if err := s.crew.end(agentName(copyOf(server.Name)), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Agent(plan.Nodes[0].Name).Command(ctx, "release", api.Command{Node: server.Name}, "lab"); err != nil {
		t.Fatal(err)
	}
	back := func(ctx context.Context) error {
		for _, n := range plan.Gateways() {
			st, err := s.Agent(n.Name).Status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			o, err := s.member(ctx, n.Name, server.Name)
			if err != nil {
				return err
			}
			if o.State != "alive" || o.ProofAge == nil || *o.ProofAge > 5 || unwell(st, "quarantined") {
				return fmt.Errorf("%s calls %s %q, proof %v, health %+v", n.Name, server.Name, o.State, o.ProofAge, st.Health)
			}
		}
		return s.registered(ctx, servers)
	}
	await(ctx, t, "released", time.Minute, back)
	await(ctx, t, "requests reach it again", time.Minute, func(context.Context) error { return s.answers(server.Name, true) })
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err := back(ctx); err != nil {
			t.Fatalf("after the release: %v", err)
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func copyOf(name string) string { return name + "-copy" }

// startCopy copies a running node's state directory and starts an agent with
// it, on a port of its own.
func startCopy(ctx context.Context, t *testing.T, s *scene, of Node) {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	twin := of
	twin.Name, twin.ListenPort = copyOf(of.Name), ports[0].Port()
	if err := copyState(s.stateDir(of.Name), s.stateDir(twin.Name)); err != nil {
		t.Fatal(err)
	}
	seed, err := s.cloud.seed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeConfig(twin, seed); err != nil {
		t.Fatal(err)
	}
	if err := s.startAgent(twin); err != nil {
		t.Fatal(err)
	}
	if err := s.waitAgent(ctx, twin); err != nil {
		t.Fatal(err)
	}
}

// copyState copies what a backup of a state directory has: no socket, no lock.
func copyState(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary file of the running agent
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular() || filepath.Ext(path) == ".lock":
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}

// registered checks how many servers of the machine room the load balancer has.
func (s *scene) registered(ctx context.Context, want int) error {
	for _, n := range s.Map().Gateways() {
		st, err := s.Agent(n.Name).Status(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if !st.Leader.Self || len(st.Routes) == 0 {
			continue
		}
		for _, p := range st.Routes[0].Pools {
			if p.Pool == PoolRoom && p.Healthy == want {
				return nil
			}
		}
		return fmt.Errorf("%s sees %+v, want %d healthy targets in %s", n.Name, st.Routes[0].Pools, want, PoolRoom)
	}
	return errors.New("no leader")
}

// answers checks whether a server was among those who answered in three seconds,
// in which no request failed.
func (s *scene) answers(server string, want bool) error {
	now := time.Now().Add(-requestTimeout)
	asked := s.tally.requests(now.Add(-3*time.Second), now)
	if c := countOf(asked); c.Total() < userRate || c.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed", c.Failed, c.Total())
	}
	if got := slices.ContainsFunc(asked, func(r Request) bool { return r.By == server }); got != want {
		return fmt.Errorf("among those who answered is %s: %v, want %v", server, got, want)
	}
	return nil
}
