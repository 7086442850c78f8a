package cloudtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idle is how long the checker sleeps when nothing is due; changes wake it.
const idle = time.Hour

// String names the task.
func (c *Cloud) String() string { return "cloudtest" }

// Run checks the health of targets until ctx ends, and returns nil then. Only
// while it runs does a target leave the state initial by itself.
func (c *Cloud) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		due, wait := c.due()
		for _, d := range due {
			checks.Go(func() { c.checkOne(ctx, d) })
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-c.wake:
			timer.Stop()
		}
	}
}

// SetHealth fixes the state of a registered target, whatever checks say; an
// empty state gives it back to them. Unknown targets are ignored.
func (c *Cloud) SetHealth(groupARN string, addr netip.Addr, port uint16, state, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[groupARN]
	if g == nil {
		return
	}
	t := g.targets[targetKey{addr, port}]
	if t == nil {
		return
	}
	t.pinned = state != ""
	if t.pinned {
		t.state, t.reason = state, reason
		return
	}
	t.state, t.reason, t.passed, t.failed = "initial", "Elb.InitialHealthChecking", 0, 0
}

// dueCheck is one health check to be made.
type dueCheck struct {
	t    *target
	spec healthCheck
	addr string
}

// due marks and returns the checks whose time has come, and how long until
// the next.
func (c *Cloud) due() ([]dueCheck, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, wait := time.Now(), idle
	var out []dueCheck
	for _, g := range c.groups {
		for _, t := range g.sorted(now) {
			if t.checking || t.pinned || t.draining() || !c.inUse(g, t) {
				continue
			}
			if d := t.next.Sub(now); d > 0 {
				wait = min(wait, d)
				continue
			}
			if t.reason == "Elb.RegistrationInProgress" {
				t.reason = "Elb.InitialHealthChecking"
			}
			t.checking = true
			t.next = now.Add(c.scaled(g.check.interval))
			out = append(out, dueCheck{t, g.check, checkAddr(g.check, t.key)})
		}
	}
	return out, wait
}

func checkAddr(h healthCheck, k targetKey) string {
	port := h.port
	if port == "traffic-port" {
		port = strconv.Itoa(int(k.port))
	}
	return net.JoinHostPort(k.addr.String(), port)
}

// checkOne makes one check and counts its result.
func (c *Cloud) checkOne(ctx context.Context, d dueCheck) {
	cctx, cancel := context.WithTimeout(ctx, c.scaled(d.spec.timeout))
	reason := c.probe(cctx, d)
	cancel()
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	before := d.t.state
	d.t.checking = false
	d.t.count(reason, d.spec)
	after := d.t.state
	c.mu.Unlock()
	if before != after {
		c.opts.Logger.Info("target health", "endpoint", d.addr, "state", after, "reason", reason)
	}
	c.poke()
}

// count moves the state by thresholds. A new target of an ALB needs a single
// pass (ALB user guide, target health).
func (t *target) count(reason string, h healthCheck) {
	if reason == "" {
		t.passed, t.failed = t.passed+1, 0
	} else {
		t.passed, t.failed = 0, t.failed+1
	}
	switch {
	case t.pinned:
	case reason == "" && (t.state == "initial" || t.passed >= h.healthy):
		t.state, t.reason = "healthy", ""
	case reason != "" && t.failed >= h.unhealthy:
		t.state, t.reason = "unhealthy", reason
	}
}

// probe returns ELB's reason for a failed check, "" for a passed one.
func (c *Cloud) probe(ctx context.Context, d dueCheck) string {
	if d.spec.protocol == "TCP" {
		conn, err := c.opts.Dial(ctx, "tcp", d.addr)
		if err != nil {
			return failure(err)
		}
		_ = conn.Close() // it did open, that is the check
		return ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addr+d.spec.path, nil)
	if err != nil {
		return "Target.FailedHealthChecks"
	}
	req.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	res, err := once{dial: c.opts.Dial}.RoundTrip(req)
	if err != nil {
		return failure(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
		return failure(err)
	}
	if !matches(d.spec.matcher, res.StatusCode) {
		return "Target.ResponseCodeMismatch"
	}
	return ""
}

func failure(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return "Target.Timeout"
	}
	return "Target.FailedHealthChecks"
}

// matches reads a matcher like "200,202" or "200-399" (API reference, Matcher).
func matches(matcher string, status int) bool {
	for part := range strings.SplitSeq(matcher, ",") {
		from, to, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			if b, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		if status >= a && status <= b {
			return true
		}
	}
	return false
}
