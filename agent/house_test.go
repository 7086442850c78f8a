package agent_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
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

// nextPort is where the next search for a free port begins: below the ports that
// the system gives to whoever dials, which would come and go meanwhile.
var nextPort atomic.Uint32

func init() { nextPort.Store(uint32(10000 + os.Getpid()%200*100)) }

// freePort is a UDP port that nobody uses now, and neither its TCP twin. It is
// given once in this process.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		port := uint16(10000 + nextPort.Add(1)%20000)
		at := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()
		p, err := net.ListenPacket("udp4", at)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp4", at)
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
	_, stop = h.run(t, nil, change)
	return stop
}

// run is startWith for who wants to look inside.
func (h host) run(t *testing.T, log *slog.Logger, change func(*config.Settings)) (a *agent.Agent, stop func()) {
	t.Helper()
	return h.runPrepared(t, log, change, nil)
}

// runPrepared is run with a last change to the agent before it runs.
func (h host) runPrepared(t *testing.T, log *slog.Logger, change func(*config.Settings), prepare func(*agent.Agent)) (a *agent.Agent, stop func()) {
	t.Helper()
	s := config.Default()
	s.Backend, s.ListenPort, s.Socket = tunnel.Netstack, h.port, h.socket()
	s.Timing.StartGrace = 8 * time.Second // so that nobody waits half a minute
	if change != nil {
		change(&s)
	}
	a, err := agent.New(agent.Options{Settings: s, StateDir: h.dir, Version: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(a)
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
	return a, stop
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

// found makes a mesh with h as its first gateway; nothing runs yet.
func found(t *testing.T, h host) {
	t.Helper()
	if _, err := enroll.Init(enroll.InitOptions{
		StateDir: h.dir, Mesh: "test", Site: "aws", Name: h.name, ListenPort: h.port, Endpoints: []netip.AddrPort{h.endpoint()},
	}); err != nil {
		t.Fatal(err)
	}
}

// token makes a token on a gateway.
func (h host) token(t *testing.T, o enroll.TokenOptions) *pki.Token {
	t.Helper()
	if o.Site == "" {
		o.Site = "idc"
	}
	text, err := enroll.CreateToken(h.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// join makes h a member; nothing runs yet.
func (h host) join(t *testing.T, token *pki.Token) (enroll.Result, error) {
	t.Helper()
	o := enroll.JoinOptions{StateDir: h.dir, Token: token, Name: h.name, ListenPort: h.port}
	if token.Role == discovery.RoleGateway {
		o.Endpoints = []netip.AddrPort{h.endpoint()}
	}
	return enroll.Join(t.Context(), o)
}

func (h host) mustJoin(t *testing.T, token *pki.Token) enroll.Result {
	t.Helper()
	res, err := h.join(t, token)
	if err != nil {
		t.Fatalf("%s joins: %v", h.name, err)
	}
	return res
}

// mesh makes a gateway, running, and a server that has joined it.
func mesh(t *testing.T) (gw, gpu host, stopGateway func()) {
	t.Helper()
	gw, gpu = newHost(t, "gw-a"), newHost(t, "gpu-1")
	found(t, gw)
	stopGateway = gw.start(t)
	gw.until(t, "ready", ready(gw.name))
	gpu.mustJoin(t, gw.token(t, enroll.TokenOptions{}))
	return gw, gpu, stopGateway
}

func ready(name string) func(api.Status) bool {
	return func(st api.Status) bool { return st.Self.Name == name }
}
