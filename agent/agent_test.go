package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/tunnel"
)

// TestAgentsMeet is the shortest whole story: a mesh is made, a host joins with
// a token, the gateway sees its site up, then dark when the host is gone, and
// up again.
func TestAgentsMeet(t *testing.T) {
	t.Parallel()
	gw, gpu, _ := mesh(t)
	stop := gpu.start(t)
	gw.until(t, "gpu-1 alive", memberIs("gpu-1", "alive"))
	gpu.until(t, "gw-a alive", memberIs("gw-a", "alive"))
	gw.until(t, "site up", verdictOf("idc", "up"))
	stop()
	gw.until(t, "site dark", verdictOf("idc", "dark"))
	gpu.start(t)
	gw.until(t, "site up again", verdictOf("idc", "up"))
}

// TestAgentReturnsFromDisk: with no gateway reachable, a restarted agent is
// there, and finds the gateway again when that returns.
func TestAgentReturnsFromDisk(t *testing.T) {
	t.Parallel()
	gw, gpu, stopGateway := mesh(t)
	stop := gpu.start(t)
	gw.until(t, "site up", verdictOf("idc", "up"))
	stop()
	stopGateway()
	gpu.start(t)
	gpu.until(t, "gateway remembered", func(st api.Status) bool { return len(st.Members) == 2 })
	gw.start(t)
	gw.until(t, "site up", verdictOf("idc", "up"))
}

// TestGatewayTakesInAnew: a gateway that was killed before it had written down
// who just joined, or lost its records, knows its members again.
func TestGatewayTakesInAnew(t *testing.T) {
	t.Parallel()
	gw, gpu, stopGateway := mesh(t)
	gpu.start(t)
	gw.until(t, "gpu-1 alive", memberIs("gpu-1", "alive"))
	stopGateway()
	if err := os.Remove(filepath.Join(gw.dir, "peers.bin")); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	gw.start(t)
	gw.until(t, "gpu-1 alive again", memberIs("gpu-1", "alive"))
	t.Logf("known again after %s", time.Since(at).Round(100*time.Millisecond))
}

// TestAgentNamesItsTrouble: each refusal at the start says cause and next step.
func TestAgentNamesItsTrouble(t *testing.T) {
	t.Parallel()
	t.Run("not joined", func(t *testing.T) {
		_, err := agent.New(agent.Options{Settings: config.Default(), StateDir: t.TempDir()})
		if !errors.Is(err, agent.ErrNotJoined) {
			t.Fatalf("error %v, want ErrNotJoined", err)
		}
	})
	gw, _, _ := mesh(t)
	run := func(t *testing.T, change func(*config.Settings)) error {
		t.Helper()
		s := config.Default()
		s.Backend, s.ListenPort, s.Socket = tunnel.Netstack, freePort(t), filepath.Join(t.TempDir(), "s.sock")
		change(&s)
		other := newHost(t, "gw-z")
		if _, err := enroll.Init(enroll.InitOptions{StateDir: other.dir, Mesh: "other", Site: "aws", Name: other.name}); err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Options{Settings: s, StateDir: other.dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return a.Run(ctx)
	}
	t.Run("port taken", func(t *testing.T) {
		err := run(t, func(s *config.Settings) { s.ListenPort = gw.port })
		if !errors.Is(err, tunnel.ErrPortTaken) {
			t.Fatalf("error %v, want ErrPortTaken", err)
		}
	})
	t.Run("socket taken", func(t *testing.T) {
		err := run(t, func(s *config.Settings) { s.Socket = gw.socket() })
		if !errors.Is(err, api.ErrSocketTaken) {
			t.Fatalf("error %v, want ErrSocketTaken", err)
		}
	})
	t.Run("state directory in use", func(t *testing.T) {
		s := config.Default()
		s.Backend = tunnel.Netstack
		a, err := agent.New(agent.Options{Settings: s, StateDir: gw.dir})
		if err != nil {
			t.Fatal(err)
		}
		err = a.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "pid") {
			t.Fatalf("error %v, want the pid of the other agent", err)
		}
	})
}
