package agent

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// renewal keeps the own certificate alive: at half of its life, and again and
// again until it works. A failure cuts nothing; it is told in status.
type renewal struct{ a *Agent }

func (renewal) String() string { return "renewal" }

// Run renews until ctx ends.
func (r renewal) Run(ctx context.Context) error {
	fails, asked := 0, 0
	for {
		wait := r.pause(fails)
		if fails == 0 && r.lacks() {
			wait = min(wait, askPause(asked))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		due, err := r.due()
		if err != nil {
			r.a.log.Error("own certificate not read", "err", err)
			fails++
			continue
		}
		lacks := r.lacks()
		if time.Now().Before(due) && !lacks {
			fails, asked = 0, 0
			continue
		}
		if lacks {
			asked++
		}
		chain, err := enroll.Renew(ctx, r.a.renewOptions())
		if ctx.Err() != nil {
			return nil
		}
		r.note(err)
		if err != nil {
			fails++
			r.a.log.Warn("certificate not renewed: tunnels stay, another try follows", "err", err, "fails", fails)
			continue
		}
		fails = 0
		r.a.useChain(chain)
		end := time.Time{}
		if _, to, err := pki.Lifetime(chain[0]); err == nil {
			end = to.UTC()
		}
		issuer, renewer := pki.Signers(chain)
		r.a.log.Info("certificate renewed", "until", end, "issuer", issuer, "renewer", renewer)
	}
}

// due is when the own certificate is to be renewed.
func (r renewal) due() (time.Time, error) {
	chain, err := r.a.dir.Chain()
	if err != nil {
		return time.Time{}, err
	}
	return pki.RenewAt(chain[0])
}

// lacks reports whether the certificate has other networks behind this server
// than its configuration advertises.
func (r renewal) lacks() bool {
	chain, err := r.a.dir.Chain()
	if err != nil || r.a.id.self.Role == discovery.RoleGateway {
		return false
	}
	id, _, _ := r.a.trust.roll.Verify(chain, time.Now())
	return id.ID != "" && !slices.Equal(id.Subnets, r.a.set.Advertise)
}

// askPause is how long to wait before asking for networks again, after so many
// times: a person has to allow them first.
func askPause(asked int) time.Duration {
	d := min(5*time.Second<<min(asked, 10), renewPauseMax)
	return d/2 + rand.N(d/2+1)
}

// The bounds of waiting for the next look or try, and its share of the
// certificate's life: a 30-day one is looked at every hour.
const (
	renewPauseMin = 2 * time.Second
	renewPauseMax = time.Hour
	renewShare    = 500
)

// pause spreads the looks of many nodes, and grows with failures.
func (r renewal) pause(fails int) time.Duration {
	life := pki.NodeLife
	if chain, err := r.a.dir.Chain(); err == nil {
		if from, to, err := pki.Lifetime(chain[0]); err == nil {
			life = to.Sub(from)
		}
	}
	d := life / renewShare
	if fails > 0 {
		d = 15 * time.Second << min(fails-1, 8)
		d = min(d, life/20)
	}
	d = max(renewPauseMin, min(d, renewPauseMax))
	return d/2 + rand.N(d/2+1)
}

// note keeps how renewal fares.
func (r renewal) note(err error) {
	r.a.trust.set(func(f *discovery.Trust) {
		switch {
		case err == nil:
			f.RenewErr, f.RenewSince = "", time.Time{}
		case f.RenewErr == "":
			f.RenewSince = time.Now()
			fallthrough
		default:
			f.RenewErr = err.Error()
		}
	})
}

// renewOptions are where and how gateways are asked.
func (a *Agent) renewOptions() enroll.RenewOptions {
	return enroll.RenewOptions{
		Dir: a.dir, Roll: a.trust.roll, Addrs: a.gatewayAddrs(), NodeLife: a.set.Enrolment.NodeLife, Advertise: a.set.Advertise,
		Hear: func(notice []byte) { a.heard(notice) },
	}
}

// gatewayAddrs are the TCP addresses of the other gateways' enrolment: the
// numbers of their tunnels' endpoints, and where else they say. The one that this node's address is from
// comes first, since it certifies anew instead of extending; then the living.
func (a *Agent) gatewayAddrs() []string {
	var home, living, rest []string
	first := a.homeAddr()
	add := func(list []string, eps []netip.AddrPort) []string {
		for _, ep := range eps {
			if !a.id.node.Prefix.Contains(ep.Addr()) && !slices.Contains(list, ep.String()) {
				list = append(list, ep.String())
			}
		}
		return list
	}
	for _, m := range a.gossip.Members() {
		at := slices.Concat(m.Endpoints, m.Streams)
		switch {
		case m.Role != discovery.RoleGateway || m.ID == a.id.self.ID:
		case m.Addr == first:
			home = add(home, at)
		case m.State == discovery.StateAlive:
			living = add(living, at)
		default:
			rest = add(rest, at)
		}
	}
	return slices.Concat(home, living, rest)
}

// homeAddr is the overlay address of the gateway whose block this node's
// address is from.
func (a *Agent) homeAddr() netip.Addr {
	for n := 0; ; n++ {
		block, ok := pki.Block(a.id.node.Prefix, n)
		if !ok {
			return netip.Addr{}
		}
		if block.Contains(a.id.self.Addr) {
			return pki.FirstAddr(block)
		}
	}
}

// greeter asks gateways for the time and for this node's standing: after the
// start, once an hour, and more often while no gateway gives proof. That names
// a wrong clock, and a revocation that this node did not hear.
type greeter struct{ a *Agent }

const (
	greetFirst = 3 * time.Second
	greetEvery = time.Hour
	greetAlone = 20 * time.Second
)

func (greeter) String() string { return "greeter" }

// Run asks until ctx ends.
func (g greeter) Run(ctx context.Context) error {
	wait := greetFirst
	for {
		for last := time.Now(); time.Since(last) < wait; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(wait, time.Second)):
			}
			if wait == greetEvery && g.alone() && time.Since(last) > greetAlone {
				break
			}
		}
		wait = greetEvery
		if !g.greet(ctx) || g.alone() {
			wait = greetAlone
		}
	}
}

// alone: the tunnel exists for a while, and no gateway answers through it.
func (g greeter) alone() bool {
	s := g.a.world.Snapshot(time.Now())
	if time.Since(g.a.started) < greetAlone {
		return false
	}
	others := false
	for _, m := range s.Members {
		if m.Role != discovery.RoleGateway || m.ID == g.a.id.self.ID {
			continue
		}
		others = true
		for _, o := range s.Sight.Observations {
			if o.Node == m.ID && time.Since(o.Proof) < greetAlone {
				return false
			}
		}
	}
	return others
}

// greet asks until one gateway answers.
func (g greeter) greet(ctx context.Context) bool {
	a := g.a
	for _, addr := range a.gatewayAddrs() {
		o := a.renewOptions()
		o.Addrs = []string{addr}
		hello, err := enroll.Hello(ctx, o)
		if err != nil {
			a.log.Debug("no greeting", "endpoint", addr, "err", err)
			continue
		}
		a.trust.set(func(f *discovery.Trust) {
			f.Skew, f.SkewWith, f.SkewAt = hello.Skew, hello.Gateway, time.Now()
			if hello.Standing == enroll.StandingRevoked && f.Revoked == "" {
				f.Revoked = "said by " + hello.Gateway
			}
		})
		return true
	}
	return len(a.gatewayAddrs()) == 0
}
