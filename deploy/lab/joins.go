package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	// strangersSite is where the crowd belongs, so that no site of the story
	// has nodes that never come up.
	strangersSite = "crowd"
	// tokenUses is how many hosts join with one of the crowd's tokens: the most
	// that a token allows.
	tokenUses = 100
	// maxJoinRate bounds the tokens that are made beforehand, joins a second.
	maxJoinRate = 250
)

// measureJoins lets a crowd of hosts join through one gateway, each from an
// address and network of its own.
func measureJoins(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, m.Runs, r, func(ctx context.Context, i int, s *scene) error {
		// The user's requests are no part of it, and take a share of the machine.
		if err := s.crew.end("user", syscall.SIGTERM); err != nil {
			return err
		}
		from, err := s.ground.addStrangers()
		if err != nil {
			return err
		}
		gateway := s.Map().Nodes[0]
		tokens, err := s.createTokens(ctx, gateway, tokenUses, 1+int(m.For.Seconds()*maxJoinRate)/tokenUses)
		if err != nil {
			return err
		}
		before, err := s.usage(gateway.Name)
		if err != nil {
			return err
		}
		s.say("%d hosts at once join through %s for %s", m.Joiners, gateway.Name, m.For)
		began := time.Now()
		all, err := s.join(ctx, strangersHost, joinersPlan{
			Gateway: s.enrolment(gateway), From: from, Name: "crowd", Workers: m.Joiners, Uses: tokenUses, For: m.For,
		}, tokens)
		if err != nil {
			return err
		}
		after, err := s.usage(gateway.Name)
		if err != nil {
			return err
		}
		r.add("hosts that join at once", "", float64(m.Joiners))
		reportJoins(r, all, m.For)
		r.add("CPU of the gateway", "% of one core", 100*float64(after.cpu-before.cpu)/float64(time.Since(began)))
		r.add("resident memory of the gateway", "MB", float64(after.rss)/1e6)
		good := len(all) - len(failedJoins(all))
		s.say("run %d: %d joined", i+1, good)
		if good >= len(tokens)*tokenUses {
			return fmt.Errorf("all %d uses of the tokens were spent before the time was over: the rate is higher than measured", good)
		}
		if bad := failedJoins(all); len(bad) > 0 {
			return fmt.Errorf("%d of %d joins failed, the first one: %s", len(bad), len(all), bad[0].Err)
		}
		return nil
	})
}

// reportJoins adds the rate of joins that ended within the time, and how long
// they took.
func reportJoins(r *Report, all []Joined, d time.Duration) {
	var took []time.Duration
	if len(all) == 0 {
		return
	}
	end := slices.MinFunc(all, func(a, b Joined) int { return a.Start.Compare(b.Start) }).Start.Add(d)
	for _, j := range all {
		if j.Err == "" && j.Start.Add(j.Took).Before(end) {
			took = append(took, j.Took)
		}
	}
	slices.Sort(took)
	r.addHigher("joins", "a second", float64(len(took))/d.Seconds())
	if len(took) > 0 {
		r.add("one join, p50", "s", quantile(took, 0.50).Seconds())
		r.add("one join, p99", "s", quantile(took, 0.99).Seconds())
		r.add("one join, longest", "s", took[len(took)-1].Seconds())
	}
	r.add("joins that failed", fmt.Sprintf("of %d", len(all)), float64(len(failedJoins(all))))
}

// quantile is the smallest value that is not below the share q of the sorted
// values; of none it is 0.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q * float64(len(sorted)))
	if float64(i) == q*float64(len(sorted)) {
		i--
	}
	return sorted[max(0, min(i, len(sorted)-1))]
}

func failedJoins(all []Joined) []Joined {
	return slices.DeleteFunc(slices.Clone(all), func(j Joined) bool { return j.Err == "" })
}

// createTokens makes n tokens for the crowd.
func (l *Lab) createTokens(ctx context.Context, gateway Node, uses, n int) ([]string, error) {
	var out []string
	for range n {
		t, err := l.createToken(ctx, gateway, strangersSite, uses)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// join runs a plan of joiners on a host to its end.
func (l *Lab) join(ctx context.Context, host string, p joinersPlan, tokens []string) ([]Joined, error) {
	p.Dir = filepath.Join(l.dir, "joiners-"+p.Name)
	var all []Joined
	err := l.play(ctx, host, "join", p.Name, p, tokens, &all)
	return all, errors.Join(err, os.RemoveAll(p.Dir))
}
