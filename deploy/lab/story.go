package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/api"
)

// userRate is how often the user asks, requests a second.
const userRate = 50

// darkness is how long the demo's uplink stays cut.
const darkness = 10 * time.Second

// returnPatience bounds the wait for a returned site's normal weight: hold-down,
// ramp and health checks of the demo take about 25 s.
const returnPatience = 90 * time.Second

// scene is a lab with a user in it and an eye on the gateways.
type scene struct {
	*Lab
	tally *tally
	watch *watch
	tasks sync.WaitGroup
	stop  context.CancelFunc
}

// open brings a lab up, lets the user ask, and waits until both pools have
// answered.
func open(ctx context.Context, opts Options) (*scene, error) {
	l, err := Up(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &scene{Lab: l, tally: &tally{}, watch: &watch{}}
	wctx, cancel := context.WithCancel(ctx)
	s.stop = cancel
	s.tasks.Go(func() { s.watch.run(wctx, l, l.Map().Gateways()) })
	url := "http://" + l.Map().Public.String() + "/"
	_, err = l.crew.start(order{
		name: "user", host: "user", stdout: s.tally,
		args: []string{"lab", "serve-user", url, fmt.Sprint(userRate)},
	})
	if err == nil {
		err = s.flowing(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// flowing waits for two seconds in which both pools answered and nothing
// failed.
func (s *scene) flowing(ctx context.Context) error {
	return s.until(ctx, 30*time.Second, func(context.Context) error {
		now := time.Now()
		c := countOf(s.tally.requests(now.Add(-2500*time.Millisecond), now.Add(-500*time.Millisecond)))
		if c.Total() < userRate || c.Failed > 0 || c.Room == 0 || c.Cloud == 0 {
			return fmt.Errorf("requests do not flow: %d by %s, %d by %s, %d failed", c.Room, PoolRoom, c.Cloud, PoolCloud, c.Failed)
		}
		return nil
	})
}

func (s *scene) close() error {
	s.stop()
	s.tasks.Wait()
	return s.Close()
}

// evidence gathers what was recorded since the cut. It waits for the requests
// that are still open.
func (s *scene) evidence(ctx context.Context, cut, healed time.Time) (evidence, error) {
	end := time.Now()
	if err := sleep(ctx, requestTimeout+500*time.Millisecond); err != nil {
		return evidence{}, err
	}
	cs, err := s.cloud.state(ctx)
	if err != nil {
		return evidence{}, err
	}
	return evidence{cut: cut, healed: healed, notes: s.watch.since(cut), writes: cs.Writes, asked: s.tally.requests(cut, end)}, nil
}

// Demo tells the whole story: a machine room goes dark and comes back while a
// user keeps asking. With hold set, the lab then stays up until ctx ends or
// somebody stops it. The error says which promise broke.
func Demo(ctx context.Context, opts Options, hold func(context.Context, *Lab)) (Timeline, error) {
	s, err := open(ctx, opts)
	if err != nil {
		return Timeline{}, err
	}
	t, err := s.blackoutAndReturn(ctx)
	if err == nil {
		printTable(s.opts.Out, t.rows())
		err = t.broken()
	}
	if hold != nil && ctx.Err() == nil {
		hold(ctx, s.Lab)
	}
	return t, errors.Join(err, s.close())
}

func (s *scene) blackoutAndReturn(ctx context.Context) (Timeline, error) {
	out := s.opts.Out
	fmt.Fprintf(out, "\nA user asks %d times a second. Detection is at its defaults. For watching, the way\n"+
		"back is shortened: hold-down %s, then %v %% of normal, %s each; load balancer\n"+
		"health checks run at %g of AWS's interval; a weight takes %s to spread.\n\n",
		userRate, s.opts.Pace.HoldDown, s.opts.Pace.Ramp, s.opts.Pace.RampStep, healthScale, Propagation)
	fmt.Fprintln(out, screenHead)
	screen := &screen{scene: s, zero: time.Now().Add(3 * time.Second)}
	_, screen.heard = s.watch.heard(0)
	if cs, err := s.cloud.state(ctx); err == nil {
		screen.writes = len(cs.Writes)
	}
	if err := screen.show(ctx, 3*time.Second, nil); err != nil {
		return Timeline{}, err
	}
	cut := time.Now()
	screen.zero = cut
	if err := s.Cut(SiteRoom); err != nil {
		return Timeline{}, err
	}
	fmt.Fprintf(out, "        -- the machine room's uplink is cut --\n")
	if err := screen.show(ctx, darkness, nil); err != nil {
		return Timeline{}, err
	}
	if err := s.Heal(SiteRoom); err != nil {
		return Timeline{}, err
	}
	healed := time.Now()
	fmt.Fprintf(out, "        -- the uplink is back --\n")
	if err := screen.show(ctx, returnPatience, s.normal); err != nil {
		return Timeline{}, err
	}
	if err := screen.show(ctx, 3*time.Second, nil); err != nil {
		return Timeline{}, err
	}
	e, err := s.evidence(ctx, cut, healed)
	return timelineOf(e), err
}

// normal reports whether the weights are as configured again.
func (s *scene) normal(ctx context.Context) bool {
	cs, err := s.cloud.state(ctx)
	return err == nil && cs.Weights[PoolRoom] == normalWeights[PoolRoom] && cs.Weights[PoolCloud] == normalWeights[PoolCloud]
}

// screen prints a scene second by second.
type screen struct {
	*scene
	zero   time.Time // t = 0
	heard  int       // notes gathered so far
	writes int       // writes gathered so far
	held   []told    // gathered, but younger than the last line
}

const screenHead = "     t  site        onprem now>goal  cloud now>goal    answered by: onprem  cloud  failed"

// show prints a line a second for a while, or until enough says so.
func (s *screen) show(ctx context.Context, d time.Duration, enough func(context.Context) bool) error {
	end := time.Now().Add(d)
	for from := time.Now(); time.Now().Before(end); {
		if err := sleep(ctx, time.Until(from.Add(time.Second))); err != nil {
			return err
		}
		to := time.Now()
		// What was told in this second may still be on its way to us.
		if err := sleep(ctx, 2*watchEvery); err != nil {
			return err
		}
		s.line(ctx, to, countOf(s.tally.ended(from, to)))
		from = to
		if enough != nil && enough(ctx) {
			return nil
		}
	}
	return nil
}

func (s *screen) line(ctx context.Context, to time.Time, c Count) {
	out := s.opts.Out
	verdict, room, cloud, leader := s.weights(ctx)
	for _, t := range s.told(ctx, leader, to) {
		fmt.Fprintf(out, "%+8.2f s  %s\n", t.at.Sub(s.zero).Seconds(), t.text)
	}
	fmt.Fprintf(out, "%+6.0f  %-10s  %15s  %14s  %20d  %5d  %6d\n",
		to.Sub(s.zero).Seconds(), verdict, room, cloud, c.Room, c.Cloud, c.Failed)
}

// told is something that happened since the last line.
type told struct {
	at   time.Time
	text string
}

// told gathers what the gateways said and what AWS accepted before to, by
// time. Every gateway computes the same goal weights; the leader's are told.
func (s *screen) told(ctx context.Context, leader string, to time.Time) []told {
	out := s.held
	var notes []Note
	notes, s.heard = s.watch.heard(s.heard)
	for _, n := range notes {
		if text := noteText(n); text != "" && (n.Kind != api.KindGoal || n.Node == leader) {
			out = append(out, told{n.At, n.Node + ": " + text})
		}
	}
	if cs, err := s.cloud.state(ctx); err == nil {
		for _, w := range cs.Writes[s.writes:] {
			if len(w.Weight) > 0 {
				out = append(out, told{w.At, fmt.Sprintf("AWS accepted weights: %s %d, %s %d", PoolRoom, w.Weight[PoolRoom], PoolCloud, w.Weight[PoolCloud])})
			}
		}
		s.writes = len(cs.Writes)
	}
	slices.SortStableFunc(out, func(a, b told) int { return a.at.Compare(b.at) })
	n := 0
	for n < len(out) && out[n].at.Before(to) {
		n++
	}
	s.held = slices.Clone(out[n:])
	return out[:n]
}

// weights asks the gateways; the leader has the last word.
func (s *screen) weights(ctx context.Context) (verdict, room, cloud, leader string) {
	verdict, room, cloud = "?", "?", "?"
	for _, n := range s.Map().Gateways() {
		st, err := s.Agent(n.Name).Status(ctx)
		if err != nil || len(st.Routes) == 0 {
			continue
		}
		if site, ok := siteIn(st, SiteRoom); ok {
			verdict = site.Verdict
		}
		for _, p := range st.Routes[0].Pools {
			text := weightText(p)
			if p.Pool == PoolRoom {
				room = text
			} else {
				cloud = text
			}
		}
		leader = st.Leader.Name
		if st.Leader.Self {
			break
		}
	}
	return verdict, room, cloud, leader
}

func weightText(p api.Pool) string {
	goal := "keep"
	if p.Goal >= 0 {
		goal = fmt.Sprint(p.Goal)
	}
	return fmt.Sprintf("%d>%s", p.Now, goal)
}

// noteText is an event in words; "" where it is not of the story.
func noteText(n Note) string {
	reason := ""
	if n.Reason != "" {
		reason = " (" + string(n.Reason) + ")"
	}
	switch n.Kind {
	case api.KindVerdict:
		return fmt.Sprintf("site %s is %s%s", n.Subject, n.To, reason)
	case api.KindGoal:
		return fmt.Sprintf("goal weight of %s: %s > %s%s", n.Subject, n.From, n.To, reason)
	case api.KindLeader:
		return fmt.Sprintf("leader is %s%s", cmp.Or(n.To, "nobody"), reason)
	}
	return ""
}

func printTable(out io.Writer, rows [][2]string) {
	fmt.Fprintln(out)
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(out, "  %-*s  %s\n", width, r[0], r[1])
	}
	fmt.Fprintln(out)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
