package cloudtest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is something that goes wrong with the next calls of an action. Without
// Code, HTTPStatus, Drop and Garbage it only delays.
type Fault struct {
	Action      string        // "" hits every action
	Count       int           // calls to hit; 0 means 1, negative: until ClearFaults
	Delay       time.Duration // before anything happens
	Code        string        // AWS error code
	HTTPStatus  int           // with Code; 0 means 400
	Drop        bool          // no answer, until the client gives up
	Garbage     string        // this body instead of an answer; status 200 unless HTTPStatus
	AfterEffect bool          // the work is done, only the answer is lost or replaced
}

// stops reports whether the fault keeps the action from its answer.
func (f *Fault) stops() bool {
	return f.Drop || f.Garbage != "" || f.Code != "" || f.HTTPStatus != 0
}

func (f *Fault) err() error {
	if f.Code == "" && f.HTTPStatus == 0 {
		return nil
	}
	code, status := f.Code, f.HTTPStatus
	if code == "" {
		code = "InternalFailure"
	}
	if status == 0 {
		status = http.StatusBadRequest
	}
	msg := "injected fault"
	if code == "Throttling" {
		msg = "Rate exceeded"
	}
	return fail(status, code, "%s", msg)
}

// Inject adds a fault. Faults are used up in the order of their injection.
func (c *Cloud) Inject(f Fault) {
	if f.Count == 0 {
		f.Count = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &f)
}

// ClearFaults removes all faults that are left.
func (c *Cloud) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

func (c *Cloud) takeFault(action string) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.faults {
		if f.Action != "" && f.Action != action {
			continue
		}
		hit := *f
		if f.Count--; f.Count == 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		return &hit
	}
	return nil
}

// bucket is a token bucket: burst tokens, refilled at rate a second.
type bucket struct {
	rate, burst, left float64
	last              time.Time
}

// throttled takes a token when Options.Throttle is set. The sizes are per
// account and region. Sources: the Elastic Load Balancing user guide, "API
// throttling" (Describe: the lower, older figures), the client-side defaults
// of aws-load-balancer-controller for register and modify, and the EC2
// developer guide, "Request throttling" (non-mutating and mutating actions);
// IAM user guide, "IAM and STS quotas" (600 requests a second).
// Callers see ELB's refusal as code Throttling with HTTP 400, EC2's as
// RequestLimitExceeded with HTTP 503.
func (c *Cloud) throttled(svc, action string) error {
	if !c.opts.Throttle {
		return nil
	}
	name, rate, burst := "elb-modify", 3.0, 20.0
	describe := strings.HasPrefix(action, "Describe")
	switch {
	case svc == "sts":
		name, rate, burst = "sts", 600, 600
	case svc == "ec2" && describe:
		name, rate, burst = "ec2-describe", 20, 100
	case svc == "ec2":
		name, rate, burst = "ec2-mutate", 5, 50
	case describe:
		name, rate, burst = "elb-describe", 10, 40
	case action == "RegisterTargets" || action == "DeregisterTargets":
		name, rate, burst = "elb-targets", 4, 20
	}
	now := time.Now()
	b := c.buckets[name]
	if b == nil {
		b = &bucket{rate: rate, burst: burst, left: burst, last: now}
		c.buckets[name] = b
	}
	b.left = min(b.burst, b.left+b.rate*now.Sub(b.last).Seconds())
	b.last = now
	if b.left < 1 {
		if svc == "ec2" {
			return fail(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
		}
		return fail(400, "Throttling", "Rate exceeded")
	}
	b.left--
	return nil
}
