package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hamlet is a network of a few hosts, for stories that the miniature internet
// is too large or too usual for. Its agents find no program to help them: their
// PATH is empty.
type hamlet struct {
	*testing.T
	hosts map[string]*host
	crew  *crew
	dir   string
}

// newHamlet makes hosts without any wires. The calling test must be inside, see
// inNamespaces.
func newHamlet(t *testing.T, hosts ...string) *hamlet {
	t.Helper()
	h := &hamlet{T: t, hosts: map[string]*host{}, dir: shortDir(t)}
	for _, name := range hosts {
		m, err := newHost(name)
		h.must(err)
		h.hosts[name] = m
	}
	g := &namespaces{hosts: h.hosts}
	h.crew = &crew{ground: g, binary: buildBinary(t), logs: h.dir}
	t.Cleanup(func() {
		h.crew.close()
		if t.Failed() {
			for name := range h.hosts {
				t.Logf("%s:\n%s", name, logTail(filepath.Join(h.dir, agentName(name)+".log")))
			}
		}
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *hamlet) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// wire joins two hosts; an end is "host link prefix".
func (h *hamlet) wire(a, b string) {
	h.Helper()
	x, y := strings.Fields(a), strings.Fields(b)
	h.must(h.hosts[x[0]].wire(x[1], netip.MustParsePrefix(x[2]), h.hosts[y[0]], y[1], netip.MustParsePrefix(y[2])))
}

func (h *hamlet) route(name, dst, via string) {
	h.Helper()
	h.must(h.hosts[name].route(netip.MustParsePrefix(dst), netip.MustParseAddr(via)))
}

// sysctl writes a kernel setting on hosts; none: on all.
func (h *hamlet) sysctl(setting, value string, on ...string) {
	h.Helper()
	for name, m := range h.hosts {
		if len(on) == 0 || slices.Contains(on, name) {
			h.must(m.do(func() error { return os.WriteFile("/proc/sys/net/"+setting, []byte(value), 0o644) }))
		}
	}
}

func (h *hamlet) state(name string) string { return filepath.Join(h.dir, name) }

// run does a command of the agent's program on a host.
func (h *hamlet) run(name string, env []string, args ...string) string {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), processPatience)
	defer cancel()
	out, err := h.crew.run(ctx, order{host: name, args: args, env: append(env, "PATH=", "DRAWBRIDGE_STATE_DIR="+h.state(name))})
	h.must(err)
	return strings.TrimSpace(out)
}

// agent starts the agent of a host, with lines of its configuration.
func (h *hamlet) agent(name string, lines ...string) {
	h.Helper()
	file := filepath.Join(h.dir, name+".yaml")
	lines = append([]string{"version: 1", "backend: tun", "socket: " + h.socket(name)}, lines...)
	h.must(os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	_, err := h.crew.start(order{
		name: agentName(name), host: name, args: []string{"agent", "--config", file, "--state-dir", h.state(name)}, env: []string{"PATH="},
	})
	h.must(err)
}

func (h *hamlet) socket(name string) string { return filepath.Join(h.dir, name+".sock") }

// found makes the mesh on a gateway.
func (h *hamlet) found(name, endpoint string) {
	h.Helper()
	h.run(name, nil, "init", "--mesh", MeshName, "--site", SiteCloud, "--name", name, "--prefix", MeshPrefix.String(), "--endpoint", endpoint)
}

// join lets a host join by a token of the gateway.
func (h *hamlet) join(name, gateway string, terms ...string) {
	h.Helper()
	token := h.run(gateway, nil, append([]string{"token", "create", "--site", SiteRoom}, terms...)...)
	h.run(name, []string{"DRAWBRIDGE_TOKEN=" + token}, "join", "--name", name)
}

// codes are the findings in the status of a host.
func (h *hamlet) codes(ctx context.Context, name string) ([]string, error) {
	out, err := h.crew.run(ctx, order{host: name, args: []string{"status", "--json", "--socket", h.socket(name)}, env: []string{"PATH="}})
	if out == "" {
		return nil, err // a status that is degraded is printed all the same
	}
	var st struct {
		Health []struct {
			Code string `json:"code"`
		} `json:"health"`
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return nil, err
	}
	var codes []string
	for _, f := range st.Health {
		codes = append(codes, f.Code)
	}
	return codes, nil
}

// serve answers on a host: who asks, and who was asked.
func (h *hamlet) serve(name, at string) {
	h.Helper()
	var l net.Listener
	h.must(h.hosts[name].do(func() (err error) { l, err = net.Listen("tcp", at); return err }))
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s to %s", from, name)
	})}
	go func() { _ = s.Serve(l) }()
	h.Cleanup(func() { _ = s.Close() })
}

// reaches waits until a host gets an answer.
func (h *hamlet) reaches(name, to, want string) {
	h.Helper()
	h.until("an answer for "+name+" by "+to, func(ctx context.Context) error {
		got, err := askFrom(ctx, h.hosts[name], netip.MustParseAddrPort(to))
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// until repeats a try for as long as a mesh may take.
func (h *hamlet) until(what string, try func(context.Context) error) {
	h.Helper()
	err := repeat(h.Context(), meshPatience, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		if dead := h.crew.dead(); dead != nil {
			return true, dead
		}
		err := try(ctx)
		return err == nil, err
	})
	if err != nil {
		h.Fatalf("%s: %v", what, err)
	}
}

var errNotYet = errors.New("not yet")
