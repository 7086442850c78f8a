package agent_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// TestMain lets more stories run at once than there are cores: they mostly wait.
// It lends the test binary to processes that are to crash.
func TestMain(m *testing.M) {
	if line := os.Getenv(crashEnv); line != "" {
		fmt.Fprintln(os.Stderr, crash(line))
		os.Exit(1)
	}
	flag.Parse()
	awsEnvironment()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}

// awsEnvironment takes away whatever the SDK could find on this host, and gives
// it the key of the fakes.
func awsEnvironment() {
	none := filepath.Join(os.TempDir(), "drawbridge-test-has-no-such-file")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example",
		"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
}

// citizen is a running agent.
type citizen struct {
	host
	*agent.Agent
	stop   func()
	log    *slog.Logger
	change func(*config.Settings)
}

func (c *citizen) start(t *testing.T) {
	t.Helper()
	c.Agent, c.stop = c.run(t, c.log, c.change)
	c.until(t, "ready", ready(c.name))
}

// town is a mesh of running agents: gateways gw-a (with the root key), gw-b, ...
// and servers gpu-1, gpu-2, ... of the site idc.
type town struct {
	gateways, servers []*citizen
	log               *slog.Logger
	change            func(*config.Settings)
}

func (w *town) all() []*citizen { return slices.Concat(w.gateways, w.servers) }

func newTown(t *testing.T, gateways, servers int, change func(*config.Settings)) *town {
	t.Helper()
	w := &town{change: change}
	w.build(t, gateways, servers)
	return w
}

func (w *town) build(t *testing.T, gateways, servers int) {
	t.Helper()
	for i := range gateways {
		c := w.citizen(t, "gw-"+string(rune('a'+i)))
		if i == 0 {
			found(t, c.host)
		} else {
			c.mustJoin(t, w.gateways[0].token(t, enroll.TokenOptions{Site: "aws", Role: discovery.RoleGateway}))
		}
		c.start(t)
		w.gateways = append(w.gateways, c)
	}
	for i := range servers {
		c := w.citizen(t, fmt.Sprintf("gpu-%d", i+1))
		c.mustJoin(t, w.gateways[0].token(t, enroll.TokenOptions{}))
		c.start(t)
		w.servers = append(w.servers, c)
	}
	w.whole(t)
}

func (w *town) citizen(t *testing.T, name string) *citizen {
	t.Helper()
	return &citizen{host: newHost(t, name), log: w.log, change: w.change}
}

// whole waits until everybody sees everybody, and the gateways the site.
func (w *town) whole(t *testing.T) {
	t.Helper()
	for _, c := range w.all() {
		for _, o := range w.all() {
			c.until(t, o.name+" alive", memberIs(o.name, "alive"))
		}
	}
	if len(w.servers) > 0 {
		for _, g := range w.gateways {
			g.until(t, "site up", verdictOf("idc", "up"))
		}
	}
}

// command gives a command to an agent.
func (h host) command(t *testing.T, verb string, c api.Command) api.Done {
	t.Helper()
	done, err := h.tryCommand(t, verb, c)
	if err != nil {
		t.Fatalf("%s: %s %+v: %v", h.name, verb, c, err)
	}
	return done
}

func (h host) tryCommand(t *testing.T, verb string, c api.Command) (api.Done, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return api.NewClient(h.socket()).Command(ctx, verb, c, "the test")
}

func (h host) status(t *testing.T) api.Status {
	t.Helper()
	st, err := api.NewClient(h.socket()).Status(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	return st
}

func (h host) trust(t *testing.T) api.Trust {
	t.Helper()
	tr, err := api.NewClient(h.socket()).Trust(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	return tr
}

// eventually polls until ok, for at most patience.
func eventually(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

// noMember: nobody of that name is listed, or only as one who left.
func noMember(name string) func(api.Status) bool {
	return func(st api.Status) bool {
		return !slices.ContainsFunc(st.Members, func(m api.Member) bool { return m.Name == name })
	}
}

// has: status has a finding of that code about the subject.
func has(code, subject string) func(api.Status) bool {
	return func(st api.Status) bool {
		return slices.ContainsFunc(st.Health, func(f api.Finding) bool {
			return f.Code == code && strings.Contains(f.Subject, subject)
		})
	}
}

func not(ok func(api.Status) bool) func(api.Status) bool {
	return func(st api.Status) bool { return !ok(st) }
}

// peers tells who may use which overlay addresses. Which of the gateways relays
// for the servers, and whether a server is a neighbour instead, may change at any
// time, so that is told of all together, unless a server may use another's.
func (c *citizen) peers() string {
	p := c.Plan()
	if p == nil {
		return ""
	}
	mesh := netip.MustParsePrefix("10.86.0.0/16")
	gateways := map[netip.Addr]bool{}
	for n := range 16 {
		if block, ok := pki.Block(mesh, n); ok {
			gateways[pki.FirstAddr(block)] = true
		}
	}
	owner := map[netip.Addr]tunnel.Key{}
	for _, m := range c.Members() {
		owner[m.Addr] = m.WireGuard
	}
	var out, relayed []string
	for _, q := range p.Peers {
		own := slices.DeleteFunc(slices.Clone(q.AllowedIPs), func(x netip.Prefix) bool { return x.Addr().Is6() }) // follows the others
		if len(own) == 0 {
			continue // a neighbour that is only tried
		}
		if len(own) == 1 && !gateways[own[0].Addr()] && owner[own[0].Addr()] == q.Key {
			relayed = append(relayed, own[0].String())
			continue
		}
		if i := slices.IndexFunc(own, func(x netip.Prefix) bool { return x.IsSingleIP() && gateways[x.Addr()] }); i >= 0 {
			for k, x := range own {
				if k != i {
					relayed = append(relayed, x.String())
				}
			}
			own = own[i : i+1]
		}
		out = append(out, fmt.Sprint(q.Key, own))
	}
	slices.Sort(relayed)
	return strings.Join(append(out, fmt.Sprint("relayed ", relayed)), "\n")
}

// told waits for an event in a host's history.
func (h host) told(t *testing.T, what string, ok func(history.Event) bool) {
	t.Helper()
	eventually(t, 30*time.Second, h.name+" has in its history: "+what, func() bool {
		events, err := history.Read(h.dir, history.Filter{})
		return err == nil && slices.ContainsFunc(events, ok)
	})
}

// wantCode checks a refusal of enrolment.
func wantCode(t *testing.T, err error, code enroll.Code) {
	t.Helper()
	var e *enroll.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
