package agent_test

import (
	"context"
	"crypto/ed25519"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
)

// shakeAhead lets the host shake hands with gateways by a clock that is ahead.
// The clock of a bubble stands still while a goroutine in it waits for a socket,
// so there is only a device, which needs no timer for that.
func (c *citizen) shakeAhead(t *testing.T, ahead time.Duration, gateways ...*citizen) {
	t.Helper()
	d := open(t, c.dir)
	conf := tunnel.Config{PrivateKey: must(d.WireGuardKey())(t), Addr: c.Self().Addr, Mesh: must(d.Node())(t).Prefix}
	before := map[*citizen]time.Time{}
	for _, g := range gateways {
		before[g] = g.shook(c)
		conf.Peers = append(conf.Peers, tunnel.Peer{
			Key: tunnel.Key(g.Self().WireGuard), Endpoint: g.endpoint(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(g.Self().Addr, 32)}, Keepalive: time.Second,
		})
	}
	conf.Normalize()
	all := func() bool {
		return !slices.ContainsFunc(gateways, func(g *citizen) bool { return !g.shook(c).After(before[g]) })
	}
	wall, done := time.Now().Round(0), false
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(wall.Add(ahead)))
		device := netstack.New(netstack.Options{})
		defer device.Close()
		if err := device.Apply(context.Background(), conf); err != nil {
			t.Error(err)
			return
		}
		for range 1_000_000 {
			if done = all(); done {
				return
			}
			runtime.Gosched()
		}
	})
	if !done {
		t.Fatalf("%s, by a clock that is ahead, shakes no hands", c.name)
	}
	if err := d.SetLatestTime(wall.Add(ahead)); err != nil { // as its agent does
		t.Fatal(err)
	}
}

// shook is the last handshake with another, as the device tells.
func (c *citizen) shook(with *citizen) (at time.Time) {
	st, err := c.Device().Status(context.Background())
	for _, p := range st.Peers {
		if err == nil && p.Key == tunnel.Key(with.Self().WireGuard) {
			at = p.LastHandshake
		}
	}
	return at
}

// Nobody attacks: a host boots with its clock an hour ahead, is a member, and
// its clock is put right while it is off for a while, so that its NAT gives it
// another port. The gateways refuse its handshakes for an hour; it must say so,
// and what it names as the cure must be one.
func TestAttackClockSetBack(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 1, nil)
	a, b, s := w.gateways[0], w.gateways[1], w.servers[0]
	s.stop()
	s.shakeAhead(t, time.Hour, a, b)
	after := map[*citizen]time.Time{a: a.shook(s), b: b.shook(s)}
	s.port = freePort(t)
	s.Agent, s.stop = s.run(t, nil, nil)
	at := time.Now()
	s.until(t, "named", func(st api.Status) bool {
		f := finding(st, "clock-set-back", "gw-a, gw-b", "until then")
		return f != nil && f.Severity == "error" && strings.Contains(f.Next, "drawbridge release gpu-1")
	})
	t.Logf("named after %s", time.Since(at).Round(100*time.Millisecond))
	// Gateways that know where it is dial it themselves after 15 s; these do not.
	for end := at.Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if a.shook(s) != after[a] || b.shook(s) != after[b] {
			t.Fatalf("a handshake after %s: this is not the trap", time.Since(at))
		}
	}
	if st := s.status(t); !has("clock-set-back", "gpu-1")(st) || has("clock-skew", "")(st) {
		t.Errorf("findings %+v: the gateways' clocks agree with it", st.Health)
	}
	at = time.Now()
	a.command(t, "quarantine", api.Command{Node: "gpu-1"})
	for _, g := range w.gateways {
		eventually(t, 20*time.Second, g.name+" has no tunnel to it", func() bool {
			st, err := g.Device().Status(context.Background())
			return err == nil && !slices.ContainsFunc(st.Peers, func(p tunnel.PeerStatus) bool { return p.Key == tunnel.Key(s.Self().WireGuard) })
		})
	}
	a.command(t, "release", api.Command{Node: "gpu-1"})
	for _, g := range w.gateways {
		g.until(t, "gpu-1 is back", and(memberIs("gpu-1", "alive"), verdictOf("idc", "up"), not(has("quarantined", "gpu-1"))))
	}
	s.until(t, "nothing to tell", not(has("clock-set-back", "")))
	t.Logf("back %s after the cure", time.Since(at).Round(100*time.Millisecond))
}

// Nobody attacks: a host's certificate begins in the future, since its clock is
// behind. It must name the clock, and carry traffic as before.
func TestAttackCertificateOfTomorrow(t *testing.T) {
	t.Parallel()
	w := newTown(t, 1, 2, nil)
	gw, s := w.gateways[0], w.servers[0]
	s.stop()
	g, d := open(t, gw.dir), open(t, s.dir)
	issuer := must(pki.NewSigner(must(g.Issuer())(t), must(g.IssuerKey())(t)))(t)
	self, key := s.Self(), must(d.IdentityKey())(t)
	leaf := must(pki.IssueNode(issuer, pki.Claims{
		Name: self.Name, Site: self.Site, Role: discovery.RoleServer, Addr: self.Addr, Identity: key.Public().(ed25519.PublicKey), WireGuard: self.WireGuard,
	}, time.Now().Add(24*time.Hour)))(t)
	chain := must(d.Chain())(t)
	if err := d.SetChain(append([][]byte{leaf}, chain[1:]...)); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	w.whole(t)
	s.until(t, "told", func(st api.Status) bool {
		f := finding(st, "certificate-not-yet-valid", "clock", "traffic goes on")
		return f != nil && strings.Contains(f.Next, "clock")
	})
	if gw.shook(s).IsZero() {
		t.Error("no tunnel to the host")
	}
}
