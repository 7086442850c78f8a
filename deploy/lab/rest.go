package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of CPU time in /proc: USER_HZ, 100 on every Linux
// architecture that Go supports (proc(5)).
const clockTick = 10 * time.Millisecond

// usage is what a process has used so far.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// measureRest watches what the agents cost while no user asks: pulses, gossip,
// checks, and AWS readings go on. The first ten seconds do not count.
func measureRest(ctx context.Context, opts Options, m Measure, r *Report) error {
	return eachRun(ctx, opts, 1, r, func(ctx context.Context, _ int, s *scene) error {
		if err := s.crew.end("user", syscall.SIGTERM); err != nil {
			return err
		}
		if err := sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		nodes := s.Map().Nodes
		began, before := time.Now(), map[string]usage{}
		for _, n := range nodes {
			u, err := s.usage(n.Name)
			if err != nil {
				return err
			}
			before[n.Name] = u
		}
		if err := sleep(ctx, m.For); err != nil {
			return err
		}
		took := time.Since(began)
		for _, n := range nodes {
			u, err := s.usage(n.Name)
			if err != nil {
				return err
			}
			role := "server"
			if n.Gateway {
				role = "gateway"
			}
			share := 100 * float64(u.cpu-before[n.Name].cpu) / float64(took)
			r.add("CPU of a "+role, "% of one core", share)
			r.add("resident memory of a "+role, "MB", float64(u.rss)/1e6)
			s.say("%s: %.2f %% of a core, %.1f MB", n.Name, share, float64(u.rss)/1e6)
		}
		return nil
	})
}

func (l *Lab) usage(node string) (usage, error) { return l.usageOf(agentName(node)) }

// usageOf reads what a process of the lab has used.
func (l *Lab) usageOf(name string) (usage, error) {
	p := l.crew.find(name)
	if p == nil || p.ended() {
		return usage{}, fmt.Errorf("%s is not running", name)
	}
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("read usage of %s (is /proc of this PID namespace mounted?): %w", name, err)
	}
	statm, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return usage{}, fmt.Errorf("read usage of %s: %w", name, err)
	}
	u, err := parseUsage(string(stat), string(statm), os.Getpagesize())
	if err != nil {
		return u, fmt.Errorf("read usage of %s: %w", name, err)
	}
	return u, nil
}

// parseUsage reads /proc/PID/stat (fields 14 and 15, after the name in
// brackets, which may hold anything) and /proc/PID/statm (field 2).
func parseUsage(stat, statm string, page int) (usage, error) {
	_, rest, ok := cutLast(stat, ")")
	f, m := strings.Fields(rest), strings.Fields(statm)
	if !ok || len(f) < 13 || len(m) < 2 {
		return usage{}, errors.New("unexpected form of /proc/PID/stat")
	}
	var u usage
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	u.rss = n * int64(page)
	return u, err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
