package agent_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
	"drawbridge/discovery"
)

// The attacker has the whole state directory of a node that was revoked; they
// must get no handshake, no renewal and no membership, also after all agents
// have started anew.
func TestAttackRevokedReturns(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 2, nil)
	a, b := w.gateways[0], w.gateways[1]
	victim, other := w.servers[0], w.servers[1]
	loot := host{name: "gpu-1", dir: t.TempDir(), port: freePort(t)}
	copyDir(t, victim.dir, loot.dir)
	victim.stop()
	r := newRogue(t, loot.dir, netip.Addr{}, a, b)
	r.mustConnect(t) // the keys work: what follows is no accident
	r.device.Close()

	at := time.Now()
	a.command(t, "revoke", api.Command{Node: "gpu-1"})
	for _, c := range []*citizen{a, b, other} {
		c.until(t, "gpu-1 is out", noMember("gpu-1"))
	}
	if took := time.Since(at); took > 5*time.Second {
		t.Errorf("cut off after %s everywhere, want 5 s", took)
	}
	refused := func(when string) {
		r := newRogue(t, loot.dir, netip.Addr{}, a, b)
		defer r.device.Close()
		gone := func(c *citizen) bool {
			p := c.Plan()
			for i := range p.Peers {
				if p.Peers[i].Key == r.self.WireGuard || slices.Contains(p.Peers[i].AllowedIPs, netip.PrefixFrom(r.self.Addr, 32)) {
					return false
				}
			}
			return true
		}
		for _, c := range []*citizen{a, b, other} {
			eventually(t, 30*time.Second, c.name+" has no peer with the key, "+when, func() bool { return c.Plan() != nil && gone(c) })
		}
		for _, g := range []*citizen{a, b} {
			_, err := enroll.Renew(t.Context(), enroll.RenewOptions{Dir: open(t, loot.dir), Addrs: []string{g.endpoint().String()}})
			wantCode(t, err, enroll.CodeRevokedNode)
			hello, err := enroll.Hello(t.Context(), enroll.RenewOptions{Dir: open(t, loot.dir), Addrs: []string{g.endpoint().String()}})
			if err != nil || hello.Standing != enroll.StandingRevoked {
				t.Errorf("%s greets with %+v, %v, want revoked", g.name, hello, err)
			}
		}
		// WireGuard tries every five seconds.
		for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if r.connected() {
				t.Fatalf("a handshake completed %s", when)
			}
		}
	}
	refused("while all run")
	for _, c := range []*citizen{a, b, other} {
		c.stop()
	}
	for _, c := range []*citizen{a, b, other} {
		c.start(t)
	}
	refused("after all started anew")

	// A whole agent, which has not heard of it, is told by a gateway, and nobody
	// takes it in.
	loot.start(t)
	loot.until(t, "told that it is revoked", has("revoked", ""))
	for _, c := range []*citizen{a, b, other} {
		if !noMember("gpu-1")(c.status(t)) {
			t.Errorf("%s has the revoked node again", c.name)
		}
	}
	// The host that was revoked hears it from its own disk or from a gateway.
	if !slices.ContainsFunc(a.trust(t).Notices, func(n api.Notice) bool { return n.Name == "gpu-1" && n.Kind == "revoked" }) {
		t.Error("no notice in `trust`")
	}
	b.told(t, "the revocation", func(e history.Event) bool { return e.Kind == "revoked" })
}

// The attacker runs a second host from a node's stolen state directory while the
// node lives; both gateways must set the identity apart and publish none of it
// within 30 s, until a person releases it.
func TestAttackClone(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	w := newTown(t, 2, 0, f.settings)
	a, b := w.gateways[0], w.gateways[1]
	for _, name := range []string{"gpu-1", "gpu-2"} { // a site that is dark keeps its targets
		c := w.citizen(t, name)
		c.change = func(s *config.Settings) { s.Services = []discovery.ServiceSpec{chat} }
		c.mustJoin(t, a.token(t, enroll.TokenOptions{}))
		c.start(t)
		w.servers = append(w.servers, c)
	}
	first := w.servers[0]
	w.whole(t)
	// published: the last that the load balancer heard of the node is that it has
	// the service.
	published := func() (is bool) {
		for _, c := range f.Calls() {
			if c.Code == "" && slices.ContainsFunc(slices.Collect(maps.Values(c.Params)), func(v []string) bool { return slices.Contains(v, first.Self().Addr.String()) }) {
				switch c.Action {
				case "RegisterTargets":
					is = true
				case "DeregisterTargets":
					is = false
				}
			}
		}
		return is
	}
	eventually(t, time.Minute, "the service is published", published)

	clone := host{name: "gpu-1", dir: t.TempDir(), port: freePort(t)}
	copyDir(t, first.dir, clone.dir)
	at := time.Now()
	_, stopClone := clone.run(t, nil, first.change)
	apart := has("quarantined", "gpu-1")
	for _, g := range w.gateways {
		g.until(t, "set apart", apart)
		t.Logf("%s set it apart after %s", g.name, time.Since(at).Round(100*time.Millisecond))
	}
	eventually(t, time.Minute, "the service is withdrawn", func() bool { return !published() })
	took := time.Since(at)
	t.Logf("set apart and withdrawn in %s", took.Round(100*time.Millisecond))
	if took > 30*time.Second {
		t.Errorf("set apart and withdrawn in %s, want 30 s", took)
	}
	for _, g := range w.gateways {
		for _, p := range g.Plan().Peers {
			if p.Key == first.Self().WireGuard {
				t.Errorf("%s still has a tunnel to it", g.name)
			}
		}
	}
	b.told(t, "the quarantine", func(e history.Event) bool { return e.Kind == "quarantined" && e.Reason == "clone" })

	stopClone()
	a.command(t, "release", api.Command{Node: "gpu-1"})
	for _, g := range w.gateways {
		g.until(t, "back", and(memberIs("gpu-1", "alive"), not(apart), verdictOf("idc", "up")))
	}
	eventually(t, time.Minute, "the service is published again", published)
	// Old evidence must not set it apart again.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if apart(a.status(t)) || apart(b.status(t)) {
			t.Fatal("set apart again without a clone")
		}
	}
}

// Nobody attacks: a node leaves for good. Nobody may go on believing in it, its
// name must be free, and its address must go to nobody else.
func TestAttackLeftBehind(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 2, nil)
	leaver := w.servers[0]
	loot := t.TempDir()
	copyDir(t, leaver.dir, loot)
	old := leaver.Self()
	leaver.command(t, "leave", api.Command{})
	rest := []*citizen{w.gateways[0], w.gateways[1], w.servers[1]}
	for _, c := range rest {
		c.until(t, "gpu-1 is out", noMember("gpu-1"))
	}
	leaver.stop()
	_, err := enroll.Renew(t.Context(), enroll.RenewOptions{Dir: open(t, loot), Addrs: []string{w.gateways[1].endpoint().String()}})
	wantCode(t, err, enroll.CodeRevokedNode)
	if err := open(t, leaver.dir).Wipe(); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(agent.Options{Settings: config.Default(), StateDir: leaver.dir}); !errors.Is(err, agent.ErrNotJoined) {
		t.Errorf("after the wipe: %v, want ErrNotJoined", err)
	}

	heir := w.citizen(t, "gpu-1")
	res := heir.mustJoin(t, w.gateways[0].token(t, enroll.TokenOptions{}))
	if res.Addr == old.Addr {
		t.Errorf("the address %s was given again at once", res.Addr)
	}
	if res.ID == old.ID {
		t.Error("the same identity")
	}
	heir.start(t)
	for _, c := range rest {
		c.until(t, "the heir is alive", memberIs("gpu-1", "alive"))
	}
	for i := range 3 {
		h := newHost(t, "gpu-1"+string(rune('0'+i)))
		if res := h.mustJoin(t, w.gateways[0].token(t, enroll.TokenOptions{})); res.Addr == old.Addr {
			t.Errorf("%s got the address %s of the node that left", h.name, res.Addr)
		}
	}
	if _, ok := w.gateways[1].Roll().Revoked(old.ID); !ok {
		t.Error("gw-b did not hear that it left")
	}
}
