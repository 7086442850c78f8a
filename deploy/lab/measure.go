package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"drawbridge/agent/api"
)

// Measure says what to measure, and how much.
type Measure struct {
	Runs        int           // all but loss and rest
	Percent     int           // loss
	For         time.Duration // flood, joins, loss, rest
	Joiners     int           // joins: at once
	Connections int           // flood
	Count       int           // peers: how many
	Only        []string      // overlay, paths: tunnels or changes whose names hold one of these; nil: all
	Command     []string      // printed with the figures, so that they can be repeated
}

// measures by name.
var measures = map[string]func(context.Context, Options, Measure, *Report) error{
	"blackout":     measureBlackout,
	"gateway-kill": measureGatewayKill,
	"loss":         measureLoss,
	"join":         measureJoin,
	"rest":         measureRest,
	"throughput":   measureThroughput,
	"revoke":       measureRevoke,
	"joins":        measureJoins,
	"flood":        measureFlood,
	"overlay":      measureOverlay,
	"paths":        measurePaths,
	"forward":      measureForward,
	"peers":        measurePeers,
}

// Measures are the names that RunMeasure knows, sorted.
func Measures() []string { return slices.Sorted(maps.Keys(measures)) }

// MeasuresKernel tells measurements that should have the rights of a daemon,
// where the user has them: what the kernel does for it is part of the figure.
func MeasuresKernel(name string) bool {
	return slices.Contains([]string{"overlay", "forward", "peers"}, name)
}

// RunMeasure makes one measurement. The report is complete also when the error
// says that it could not be finished. An error matching [ErrNeedsNamespaces]
// means that it was not begun on this ground.
func RunMeasure(ctx context.Context, name string, opts Options, m Measure) (*Report, error) {
	do := measures[name]
	if do == nil {
		return nil, fmt.Errorf("unknown measurement %q: want one of %v", name, Measures())
	}
	m.Runs, m.Joiners, m.Connections = max(m.Runs, 1), max(m.Joiners, 1), max(m.Connections, 1)
	r := newReport(name, opts.Mode, m.Command)
	return r, do(ctx, opts, m, r)
}

// eachRun gives every run a fresh mesh with a user in it.
func eachRun(ctx context.Context, opts Options, runs int, r *Report, do func(context.Context, int, *scene) error) error {
	for i := range runs {
		s, err := open(ctx, opts)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		r.Runs++
		err = do(ctx, i, s)
		if cerr := s.close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.fail(i, err)
		}
	}
	return nil
}

// measureBlackout cuts the machine room's uplink of a fresh mesh, again and
// again.
func measureBlackout(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, m.Runs, r, func(ctx context.Context, i int, s *scene) error {
		cut := time.Now()
		if err := s.Cut(SiteRoom); err != nil {
			return err
		}
		err := s.until(ctx, 30*time.Second, func(ctx context.Context) error {
			cs, err := s.cloud.state(ctx)
			if err == nil && cs.Weights[PoolRoom] != 0 {
				err = errors.New("the weights did not move")
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		e, err := s.evidence(ctx, cut, time.Time{})
		if err != nil {
			return err
		}
		t := timelineOf(e)
		r.Timelines = append(r.Timelines, t)
		r.addSeconds("cut to detected", t.Detected)
		r.addSeconds("cut to decided", t.Decided)
		r.addSeconds("cut to weight written", t.Written)
		r.addSeconds("cut to last failed request sent", t.LastFailed)
		r.add("failed requests", "of 50 a second", float64(t.Failed))
		r.add("failed after write and propagation", "requests", float64(t.FailedAfter))
		s.say("run %d: detected %s, written %s, %d failed", i+1, after(t.Detected), after(t.Written), t.Failed)
		return t.shiftBroken()
	})
}

// measureGatewayKill kills the agent of the gateway that the VPC routes
// through, under load.
func measureGatewayKill(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, m.Runs, r, func(ctx context.Context, i int, s *scene) error {
		cs, err := s.cloud.state(ctx)
		if err != nil {
			return err
		}
		killed := time.Now()
		if err := s.Kill(cs.NextHop); err != nil {
			return err
		}
		var good Request
		err = s.until(ctx, 60*time.Second, func(context.Context) error {
			for _, q := range s.tally.requests(killed, time.Now()) {
				if q.OK() && poolOf(q.By) == PoolRoom {
					good = q
					return nil
				}
			}
			return errors.New("no request was answered by the machine room again")
		})
		if err != nil {
			return err
		}
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		e, err := s.evidence(ctx, killed, time.Time{})
		if err != nil {
			return err
		}
		back := good.Start.Add(good.Took).Sub(killed)
		r.add("kill to next good on-premises request", "s", back.Seconds())
		for _, w := range e.writes {
			if w.ENI != "" && w.At.After(killed) {
				r.addSeconds("kill to VPC route moved", secondsBetween(killed, w.At))
				break
			}
		}
		r.add("failed requests", "of 50 a second", float64(countOf(e.asked).Failed))
		false0 := falseVerdicts(e.notes)
		r.add("verdicts other than up", "of the machine room", float64(len(false0)))
		s.say("run %d: %s killed, next good request after %.2f s", i+1, cs.NextHop, back.Seconds())
		return nil
	})
}

// falseVerdicts are the verdicts of a site that was there all the time.
func falseVerdicts(notes []Note) []Note {
	return slices.DeleteFunc(slices.Clone(notes), func(n Note) bool {
		return n.Kind != api.KindVerdict || n.Subject != SiteRoom || n.To == "up"
	})
}

// measureLoss loses packets on the uplink for a while and counts what the
// gateways made of it.
func measureLoss(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, 1, r, func(ctx context.Context, _ int, s *scene) error {
		began := time.Now()
		if err := s.Loss(SiteRoom, m.Percent); err != nil {
			return err
		}
		s.say("losing %d %% each way for %s", m.Percent, m.For)
		if err := sleep(ctx, m.For); err != nil {
			return err
		}
		e, err := s.evidence(ctx, began, time.Time{})
		if err != nil {
			return err
		}
		wrong := falseVerdicts(e.notes)
		moved := 0
		for _, w := range e.writes {
			if w.Weight != nil && w.At.After(began) {
				moved++
			}
		}
		c := countOf(e.asked)
		r.add("loss each way", "%", float64(m.Percent))
		r.add("duration", "s", m.For.Seconds())
		r.add("verdicts other than up", "of the machine room", float64(len(wrong)))
		r.add("weight writes", "calls", float64(moved))
		r.add("failed requests", fmt.Sprintf("of %d", c.Total()), float64(c.Failed))
		for _, n := range wrong {
			r.Failures = append(r.Failures, fmt.Sprintf("%s after %.1f s: %s", n.Node, n.At.Sub(began).Seconds(), noteText(n)))
		}
		return nil
	})
}

// measureJoin lets server after server join one mesh.
func measureJoin(ctx context.Context, opts Options, m Measure, r *Report) error {
	s, err := open(ctx, opts)
	if err != nil {
		return err
	}
	for i := range m.Runs {
		if err = s.joinOne(ctx, i, r); err != nil {
			err = fmt.Errorf("run %d: %w", i+1, err)
			break
		}
		r.Runs++
	}
	return errors.Join(err, s.close())
}

func (s *scene) joinOne(ctx context.Context, i int, r *Report) error {
	n, err := s.enlarge(ctx)
	if err != nil {
		return err
	}
	began, err := s.admit(ctx, n)
	if err != nil {
		return err
	}
	joined := time.Now()
	gateways := s.Map().Gateways()
	var packet time.Time
	err = repeat(ctx, processPatience, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		for _, g := range gateways {
			st, err := s.Agent(g.Name).Status(ctx)
			if err == nil && hasShakenHands(st, n.Name) {
				packet = time.Now()
				return true, nil
			}
		}
		return false, fmt.Errorf("no handshake with %s\n%s", n.Name, s.agentLog(n.Name))
	})
	if err != nil {
		return err
	}
	r.add("token asked for to join done", "s", joined.Sub(began).Seconds())
	r.add("token asked for to first overlay packet", "s", packet.Sub(began).Seconds())
	if err := s.waitMesh(ctx); err != nil {
		return err
	}
	r.add("token asked for to serving users", "s", time.Since(began).Seconds())
	s.say("run %d: first overlay packet %.2f s after the token", i+1, packet.Sub(began).Seconds())
	return nil
}

// enlarge adds a server with its application to the machine room.
func (s *scene) enlarge(ctx context.Context) (Node, error) {
	n, err := s.ground.addServer()
	if err != nil {
		return n, err
	}
	seed, err := s.cloud.seed(ctx)
	if err != nil {
		return n, err
	}
	if err := s.writeConfig(n, seed); err != nil {
		return n, err
	}
	if err := s.startApp(n.Name, n.App.String()); err != nil {
		return n, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A new list: others may hold the old one.
	s.plan.Nodes = append(slices.Clone(s.plan.Nodes), n)
	return n, nil
}

// hasShakenHands reports whether the answering agent has a WireGuard session
// with, or proof of, a node.
func hasShakenHands(st api.Status, node string) bool {
	for _, m := range st.Members {
		if m.Name == node && (m.HandshakeAge != nil || m.ProofAge != nil) {
			return true
		}
	}
	return false
}
