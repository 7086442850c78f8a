package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"drawbridge/agent/api"
)

const (
	// revokeGoal is the promise: how long after the command nobody may know the
	// node any more.
	revokeGoal = 2 * time.Second
	// revokePatience bounds the wait for it.
	revokePatience = 30 * time.Second
	// revokePoll is the pace of asking one agent, and the error of the figures.
	revokePoll = 5 * time.Millisecond
	// revokeAfter is how long the revoked node and its tunnels are watched on.
	revokeAfter = requestTimeout + 2*time.Second
	// overlayRate is how often a revoked server is asked through the overlay,
	// requests a second.
	overlayRate = 100
)

// revocation is what became of one revoked server.
type revocation struct {
	node, by   string
	sent       time.Time
	answered   time.Duration            // the command
	gone       map[string]time.Duration // by node: its agent no longer lists the server
	lastProof  *Seconds                 // the server's newest answer from a gateway; nil: none since the command
	lastAnswer *Seconds                 // the server's newest answer through the overlay; nil: none since, or not asked
}

// everywhere is when the last agent had forgotten the server.
func (v revocation) everywhere() time.Duration {
	var last time.Duration
	for _, d := range v.gone {
		last = max(last, d)
	}
	return last
}

// measureRevoke revokes a server of a fresh mesh on one gateway and watches all
// agents' status until nobody lists it.
func measureRevoke(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, m.Runs, r, func(ctx context.Context, i int, s *scene) error {
		v, err := s.revokeOne(ctx)
		if err != nil {
			return err
		}
		r.add("command to its answer", "s", v.answered.Seconds())
		for _, n := range s.Map().Gateways() {
			name := "command to gone at the other gateway"
			if n.Name == v.by {
				name = "command to gone at the gateway that was told"
			}
			r.add(name, "s", v.gone[n.Name].Seconds())
		}
		r.add("command to gone everywhere", "s", v.everywhere().Seconds())
		r.addSeconds("command to the revoked node's last proof of a gateway", v.lastProof)
		r.addSeconds("command to its last answer through the overlay", v.lastAnswer)
		s.say("run %d: %s unknown everywhere after %.2f s", i+1, v.node, v.everywhere().Seconds())
		if v.everywhere() > revokeGoal {
			return fmt.Errorf("%s was known somewhere for %.2f s, want at most %s", v.node, v.everywhere().Seconds(), revokeGoal)
		}
		return nil
	})
}

// revokeOne revokes the last server on the first gateway.
func (s *scene) revokeOne(ctx context.Context) (revocation, error) {
	plan := s.Map()
	gateway, server := plan.Nodes[0], plan.Nodes[len(plan.Nodes)-1]
	m, err := s.member(ctx, gateway.Name, server.Name)
	if err != nil {
		return revocation{}, err
	}
	overlay, err := s.askOverlay(ctx, plan.Gateways()[1], m)
	if err != nil {
		return revocation{}, err
	}
	v := revocation{node: server.Name, by: gateway.Name, gone: map[string]time.Duration{}, sent: time.Now()}
	var (
		mu    sync.Mutex // guards v.gone and errs
		errs  []error
		tasks sync.WaitGroup
		proof time.Time
	)
	for _, n := range plan.Nodes {
		if n.Name == server.Name {
			continue
		}
		tasks.Go(func() {
			took, err := s.untilGone(ctx, n.Name, m.ID, v.sent)
			mu.Lock()
			defer mu.Unlock()
			v.gone[n.Name] = took
			errs = append(errs, err)
		})
	}
	tasks.Go(func() { proof = s.lastProof(ctx, server.Name, revokeAfter) })
	_, err = s.Agent(gateway.Name).Command(ctx, "revoke", api.Command{Node: m.ID}, "lab")
	v.answered = time.Since(v.sent)
	tasks.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return v, fmt.Errorf("revoke %s: %w", server.Name, err)
	}
	if proof.After(v.sent) {
		v.lastProof = secondsBetween(v.sent, proof)
	}
	if overlay == nil {
		return v, nil
	}
	if err := sleep(ctx, time.Until(v.sent.Add(revokeAfter))); err != nil {
		return v, err
	}
	v.lastAnswer = lastGood(overlay.requests(v.sent.Add(-requestTimeout), time.Now()), v.sent)
	return v, s.crew.end(overlayUser, syscall.SIGTERM)
}

// member is a node as another one's agent lists it.
func (l *Lab) member(ctx context.Context, of, name string) (api.Member, error) {
	st, err := l.Agent(of).Status(ctx)
	if err != nil {
		return api.Member{}, fmt.Errorf("%s: %w", of, err)
	}
	i := slices.IndexFunc(st.Members, func(m api.Member) bool { return m.Name == name })
	if i < 0 {
		return api.Member{}, fmt.Errorf("%s does not list %s", of, name)
	}
	return st.Members[i], nil
}

// untilGone asks an agent until it no longer lists the node, and returns how
// long after the given instant it said so.
func (l *Lab) untilGone(ctx context.Context, of, id string, since time.Time) (time.Duration, error) {
	agent := l.Agent(of)
	var took time.Duration
	err := repeat(ctx, revokePatience, revokePoll, func(ctx context.Context) (bool, error) {
		st, err := agent.Status(ctx)
		if err != nil {
			return false, fmt.Errorf("%s: %w", of, err)
		}
		took = time.Since(since)
		if slices.ContainsFunc(st.Members, func(m api.Member) bool { return m.ID == id }) {
			return false, fmt.Errorf("%s still lists %s", of, id)
		}
		return true, nil
	})
	return took, err
}

// lastProof watches a node's own agent for a while and returns when a gateway
// proved itself to it last; zero: not at all.
func (l *Lab) lastProof(ctx context.Context, node string, d time.Duration) time.Time {
	agent := l.Agent(node)
	var last time.Time
	for end := time.Now().Add(d); time.Now().Before(end); {
		if st, err := agent.Status(ctx); err == nil {
			for _, m := range st.Members {
				if m.Role != "gateway" || m.ProofAge == nil {
					continue
				}
				if at := st.At.Add(-time.Duration(float64(*m.ProofAge) * float64(time.Second))); at.After(last) {
					last = at
				}
			}
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return last
}

// overlayUser is the process that asks one server through the overlay.
const overlayUser = "overlay-user"

// askOverlay lets a gateway's host ask a server at its overlay address and
// waits until it is answered. On loopback no host has a way into the overlay
// but the load balancer: nil.
func (s *scene) askOverlay(ctx context.Context, from Node, server api.Member) (*tally, error) {
	if s.opts.Mode != Namespaces {
		return nil, nil
	}
	addr, err := netip.ParseAddr(server.Addr)
	if err != nil {
		return nil, fmt.Errorf("overlay address of %s: %w", server.Name, err)
	}
	t := &tally{}
	_, err = s.crew.start(order{name: overlayUser, host: from.Name, stdout: t, args: []string{
		"lab", "serve-user", "http://" + netip.AddrPortFrom(addr, appPort).String() + "/", fmt.Sprint(overlayRate),
	}})
	if err != nil {
		return nil, err
	}
	return t, s.until(ctx, processPatience, func(context.Context) error {
		now := time.Now()
		c := countOf(t.requests(now.Add(-time.Second), now.Add(-200*time.Millisecond)))
		if c.Room < overlayRate/2 || c.Failed > 0 {
			return fmt.Errorf("%s is not answered by %s through the overlay: %d of %d", from.Name, server.Name, c.Room, c.Total())
		}
		return nil
	})
}

// lastGood is how long after an instant the last answer came; nil when none
// came after it.
func lastGood(asked []Request, since time.Time) *Seconds {
	var last time.Time
	for _, q := range asked {
		if end := q.Start.Add(q.Took); q.OK() && end.After(last) {
			last = end
		}
	}
	if !last.After(since) {
		return nil
	}
	return secondsBetween(since, last)
}
