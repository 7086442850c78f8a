package agent_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// host is one agent of a test, on a stack of its own and loopback ports.
type host struct {
	name string
	dir  string
	port uint16
}

func newHost(t *testing.T, name string) host {
	t.Helper()
	return host{name: name, dir: filepath.Join(t.TempDir(), name), port: freePort(t)}
}

// freePort is a UDP port that nobody uses now, and neither its TCP twin.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 20 {
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := p.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		l, err := net.Listen("tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
		p.Close()
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (h host) socket() string { return filepath.Join(h.dir, "agent.sock") }

func (h host) endpoint() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), h.port)
}

// start runs the agent until the returned function is called.
func (h host) start(t *testing.T, services ...discovery.ServiceSpec) (stop func()) {
	t.Helper()
	return h.startWith(t, func(s *config.Settings) { s.Services = services })
}

// startWith is start with other settings.
func (h host) startWith(t *testing.T, change func(*config.Settings)) (stop func()) {
	t.Helper()
	s := config.Default()
	s.Backend, s.ListenPort, s.Socket = tunnel.Netstack, h.port, h.socket()
	s.Timing.StartGrace = 8 * time.Second // so that nobody waits half a minute
	change(&s)
	a, err := agent.New(agent.Options{Settings: s, StateDir: h.dir, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", h.name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not stop", h.name)
		}
	}
	t.Cleanup(stop)
	return stop
}

// until polls the agent's status until it satisfies ok.
func (h host) until(t *testing.T, what string, ok func(api.Status) bool) {
	t.Helper()
	client := api.NewClient(h.socket())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last api.Status
	for ctx.Err() == nil {
		st, err := client.Status(ctx)
		if err == nil {
			if last = st; ok(st) {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s: not within a minute: %s; last status: %+v", h.name, what, last)
}

func verdictOf(site string, want string) func(api.Status) bool {
	return func(st api.Status) bool {
		for _, s := range st.Sites {
			if s.Site == site {
				return s.Verdict == want
			}
		}
		return false
	}
}

func memberIs(name, state string) func(api.Status) bool {
	return func(st api.Status) bool {
		for _, m := range st.Members {
			if m.Name == name {
				return m.State == state
			}
		}
		return false
	}
}

// mesh makes a gateway, running, and a server that has joined it.
func mesh(t *testing.T) (gw, gpu host, stopGateway func()) {
	t.Helper()
	gw, gpu = newHost(t, "gw-a"), newHost(t, "gpu-1")
	if _, err := enroll.Init(enroll.InitOptions{
		StateDir: gw.dir, Mesh: "test", Site: "aws", Name: gw.name, ListenPort: gw.port, Endpoints: []netip.AddrPort{gw.endpoint()},
	}); err != nil {
		t.Fatal(err)
	}
	stopGateway = gw.start(t)
	gw.until(t, "ready", func(st api.Status) bool { return st.Self.Name == gw.name })
	text, err := enroll.CreateToken(gw.dir, enroll.TokenOptions{Site: "idc"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enroll.Join(t.Context(), enroll.JoinOptions{StateDir: gpu.dir, Token: token, Name: gpu.name, ListenPort: gpu.port}); err != nil {
		t.Fatal(err)
	}
	return gw, gpu, stopGateway
}

// TestAgentsMeet is the shortest whole story: a mesh is made, a host joins with
// a token, the gateway sees its site up, then dark when the host is gone, and
// up again.
func TestAgentsMeet(t *testing.T) {
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

// TestAgentNamesItsTrouble: each refusal at the start says cause and next step.
func TestAgentNamesItsTrouble(t *testing.T) {
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
