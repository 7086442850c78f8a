package check

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"drawbridge/discovery"
)

// Defaults of a check.
const (
	DefaultInterval = 2 * time.Second
	DefaultTimeout  = time.Second
	DefaultRise     = 2
	DefaultFall     = 2
)

// Options of a checker. Report is required.
type Options struct {
	// Specs are the services, with unique names. Zero fields of a check get
	// the defaults above.
	Specs []discovery.ServiceSpec
	// Report takes the whole list, sorted by name, first at the start and then
	// at every change. The slice is the receiver's own. Calls do not overlap.
	Report func([]discovery.Service)
	// Dial reaches the local services; nil means the system's network. It must
	// give up when its context ends.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger *slog.Logger
}

// Checker runs the checks of this node's services. Make one with [New].
type Checker struct {
	opts  Options
	ready chan struct{}

	mu   sync.Mutex                      // guards the field below
	seen map[string]discovery.CheckState // by service
}

// New makes a checker; [Checker.Run] starts it.
func New(o Options) *Checker {
	if o.Dial == nil {
		o.Dial = dial
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Specs = slices.Clone(o.Specs)
	slices.SortFunc(o.Specs, func(a, b discovery.ServiceSpec) int { return cmp.Compare(a.Name, b.Name) })
	c := &Checker{opts: o, ready: make(chan struct{}), seen: map[string]discovery.CheckState{}}
	for i := range o.Specs {
		s := &c.opts.Specs[i]
		s.Check = filled(s.Check)
		s.Capacity = cmp.Or(s.Capacity, 1)
		c.seen[s.Name] = discovery.CheckUnknown
		if s.Check.Kind == discovery.CheckNone {
			c.seen[s.Name] = discovery.CheckPassing
		}
	}
	return c
}

func filled(s discovery.CheckSpec) discovery.CheckSpec {
	s.Kind = cmp.Or(s.Kind, discovery.CheckNone)
	s.Path = cmp.Or(s.Path, "/")
	s.Interval = cmp.Or(s.Interval, DefaultInterval)
	s.Timeout = cmp.Or(s.Timeout, DefaultTimeout)
	s.Rise = cmp.Or(s.Rise, DefaultRise)
	s.Fall = cmp.Or(s.Fall, DefaultFall)
	return s
}

// String names the task.
func (c *Checker) String() string { return "service checks" }

// Ready is closed after the first report.
func (c *Checker) Ready() <-chan struct{} { return c.ready }

// Run checks until ctx ends and returns nil then.
func (c *Checker) Run(ctx context.Context) error {
	c.mu.Lock()
	c.report()
	c.mu.Unlock()
	close(c.ready)
	var wg sync.WaitGroup
	for _, s := range c.opts.Specs {
		if s.Check.Kind != discovery.CheckNone {
			wg.Go(func() { c.watch(ctx, s) })
		}
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// watch checks one service. It starts somewhere in the first quarter of its
// interval, so that the services of a host are not all checked in step.
func (c *Checker) watch(ctx context.Context, s discovery.ServiceSpec) {
	var d debounce
	next := time.Now().Add(time.Duration(rand.Int64N(int64(s.Check.Interval)/4 + 1)))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := c.attempt(ctx, s)
		if ctx.Err() != nil {
			return
		}
		before := d.State()
		d = d.next(err == nil, s.Check.Rise, s.Check.Fall)
		c.opts.Logger.Debug("check", "service", s.Name, "pass", err == nil, "err", err)
		if after := d.State(); after != before {
			c.change(s, after, err)
		}
		// A check that took longer than its interval puts off the next one,
		// it never makes up for lost ones.
		if next = next.Add(s.Check.Interval); next.Before(time.Now()) {
			next = time.Now()
		}
		timer.Reset(time.Until(next))
	}
}

// change notes a new state and reports.
func (c *Checker) change(s discovery.ServiceSpec, to discovery.CheckState, err error) {
	if to == discovery.CheckFailing {
		c.opts.Logger.Warn("service failing", "service", s.Name, "endpoint", target(s), "err", err)
	} else {
		c.opts.Logger.Info("service passing", "service", s.Name, "endpoint", target(s))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[s.Name] = to
	c.report()
}

// report tells the whole list. The lock keeps the order of reports that of the
// changes.
func (c *Checker) report() {
	list := make([]discovery.Service, 0, len(c.opts.Specs))
	for _, s := range c.opts.Specs {
		list = append(list, discovery.Service{Name: s.Name, Port: s.Port, Check: c.seen[s.Name], Capacity: s.Capacity})
	}
	c.opts.Report(list)
}
