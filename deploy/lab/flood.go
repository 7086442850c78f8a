package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/pki"
)

const (
	// calm is how long the gateway is watched before the flood.
	calm = 5 * time.Second
	// sightEvery is the pace of asking the gateway how it is.
	sightEvery = 50 * time.Millisecond
	// honestPause lies between two honest joins.
	honestPause = 500 * time.Millisecond
)

// measureFlood attacks a gateway's enrolment port from another host while a
// user asks, the other nodes live on and an honest host joins now and then.
func measureFlood(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, m.Runs, r, func(ctx context.Context, i int, s *scene) error {
		from, err := s.ground.addStrangers()
		if err != nil {
			return err
		}
		gateway := s.Map().Nodes[0]
		honest, err := s.createTokens(ctx, gateway, tokenUses, 2)
		if err != nil {
			return err
		}
		foreign, err := foreignToken(honest[0])
		if err != nil {
			return err
		}
		var before, during health
		var joined, rest []Joined
		var attack Attack
		s.say("watching %s for %s", gateway.Name, calm)
		if err := s.meanwhile(ctx, gateway, &before, func(ctx context.Context) (err error) {
			rest, err = s.join(ctx, "user", s.honest("rest", gateway, calm), honest[:1])
			return err
		}); err != nil {
			return err
		}
		s.say("%d hostile connections in %s", m.Connections, m.For)
		began := time.Now()
		err = s.meanwhile(ctx, gateway, &during, func(ctx context.Context) error {
			var errs [2]error
			var tasks sync.WaitGroup
			tasks.Go(func() {
				errs[0] = s.play(ctx, strangersHost, "flood", "enrolment", attackPlan{
					Gateway: s.enrolment(gateway), From: from, Dir: filepath.Join(s.dir, attackDir), Connections: m.Connections, For: m.For,
				}, []string{foreign}, &attack)
			})
			tasks.Go(func() {
				joined, errs[1] = s.join(ctx, "user", s.honest("honest", gateway, m.For), honest[1:])
			})
			tasks.Wait()
			return errors.Join(errs[:]...)
		})
		if err != nil {
			return err
		}
		e, err := s.evidence(ctx, began, time.Time{})
		if err != nil {
			return err
		}
		return reportFlood(r, flood{attack: attack, before: before, during: during, rest: rest, joined: joined, e: e})
	})
}

// honest is one host after the other that joins from a clean address.
func (s *scene) honest(name string, gateway Node, d time.Duration) joinersPlan {
	return joinersPlan{Gateway: s.enrolment(gateway), Name: name, Workers: 1, Uses: tokenUses, Pause: honestPause, For: d}
}

// foreignToken is a token with the particulars of another one that no gateway
// has made.
func foreignToken(like string) (string, error) {
	t, err := pki.ParseToken(like)
	if err != nil {
		return "", err
	}
	f, err := pki.NewToken(*t)
	if err != nil {
		return "", err
	}
	return f.Encode(), nil
}

// health is how a gateway was for a while, as its own status and the kernel
// tell it.
type health struct {
	took   time.Duration
	asked  int           // times
	silent int           // times that its status did not come
	proof  time.Duration // the greatest age of the newest answer of a living node
	unlit  int           // times that it did not see the machine room by itself
	pauses uint64        // standstills of its prober
	cpu    time.Duration
	rss    int64 // bytes, the most
}

// meanwhile watches a gateway while something is done.
func (s *scene) meanwhile(ctx context.Context, gateway Node, h *health, do func(context.Context) error) error {
	wctx, stop := context.WithCancel(ctx)
	var watched error
	var tasks sync.WaitGroup
	tasks.Go(func() { watched = s.examine(wctx, gateway, h) })
	err := do(ctx)
	stop()
	tasks.Wait()
	return errors.Join(err, watched)
}

// examine asks a gateway how it is until ctx ends.
func (s *scene) examine(ctx context.Context, gateway Node, h *health) error {
	agent, began := s.Agent(gateway.Name), time.Now()
	first, err := agent.Status(ctx)
	if err != nil {
		return err
	}
	use, err := s.usage(gateway.Name)
	if err != nil {
		return err
	}
	cpu := use.cpu
	for sleep(ctx, sightEvery) == nil {
		if use, err = s.usage(gateway.Name); err != nil {
			return err
		}
		h.cpu, h.rss, h.took = use.cpu-cpu, max(h.rss, use.rss), time.Since(began)
		h.asked++
		st, err := agent.Status(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			h.silent++
		default:
			h.see(st)
			h.pauses = st.Counters["probe.pauses"] - first.Counters["probe.pauses"]
		}
	}
	return nil
}

// see takes one status.
func (h *health) see(st api.Status) {
	for _, m := range st.Members {
		if m.ID == st.Self.ID || m.Site == strangersSite || m.ProofAge == nil {
			continue
		}
		h.proof = max(h.proof, time.Duration(float64(*m.ProofAge)*float64(time.Second)))
	}
	site, ok := siteIn(st, SiteRoom)
	if !ok || len(site.Views) == 0 || site.Views[0].Observer != st.Self.Name || site.Views[0].State != "lit" {
		h.unlit++
	}
}

func (h health) cores() float64 {
	if h.took == 0 {
		return 0
	}
	return 100 * float64(h.cpu) / float64(h.took)
}

// flood is all that was seen of one.
type flood struct {
	attack         Attack
	before, during health
	rest, joined   []Joined
	e              evidence
}

// reportFlood adds the figures and says which promise broke.
func reportFlood(r *Report, f flood) error {
	t := f.attack.total()
	r.add("hostile connections", "of all kinds", float64(t.Made))
	r.addHigher("turned away", "a second", float64(t.InTime)/f.attack.Took.Seconds())
	for _, k := range f.attack.Kinds {
		r.add("turned away, "+k.Kind, fmt.Sprintf("of %d", k.Made), float64(k.Refused))
	}
	r.add("CPU of the gateway before", "% of one core", f.before.cores())
	r.add("CPU of the gateway", "% of one core", f.during.cores())
	r.add("resident memory of the gateway before", "MB", float64(f.before.rss)/1e6)
	r.add("resident memory of the gateway, most", "MB", float64(f.during.rss)/1e6)
	wrong := falseVerdicts(f.e.notes)
	r.add("verdicts other than up", "of the machine room", float64(len(wrong)))
	r.add("sights other than lit", fmt.Sprintf("of %d", f.during.asked), float64(f.during.unlit))
	r.add("standstills of the prober before", "", float64(f.before.pauses))
	r.add("standstills of the prober", "", float64(f.during.pauses))
	r.add("longest proof age before", "s", f.before.proof.Seconds())
	r.add("longest proof age", "s", f.during.proof.Seconds())
	for _, j := range f.rest {
		r.add("honest join before", "s", j.Took.Seconds())
	}
	for _, j := range f.joined {
		r.add("honest join during the flood", "s", j.Took.Seconds())
	}
	bad := failedJoins(f.joined)
	r.add("honest joins that failed", fmt.Sprintf("of %d", len(f.joined)), float64(len(bad)))
	c := countOf(f.e.asked)
	r.add("failed requests of the user", fmt.Sprintf("of %d", c.Total()), float64(c.Failed))

	var errs []error
	if t.Broken > 0 {
		errs = append(errs, fmt.Errorf("%d of %d connections could not be made by the attacker's host", t.Broken, t.Made))
	}
	if t.Admitted > 0 {
		errs = append(errs, fmt.Errorf("%d hostile connections got an answer", t.Admitted))
	}
	if t.Held > 0 {
		errs = append(errs, fmt.Errorf("%d hostile connections were held for %s", t.Held, attackPatience))
	}
	if len(f.joined) == 0 {
		errs = append(errs, errors.New("no honest host joined"))
	}
	if len(bad) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d honest joins failed, the first one: %s", len(bad), len(f.joined), bad[0].Err))
	}
	for _, n := range wrong {
		errs = append(errs, fmt.Errorf("%s: %s", n.Node, noteText(n)))
	}
	return errors.Join(errs...)
}
