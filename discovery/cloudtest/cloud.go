package cloudtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// The only account and the default region of the fake.
const (
	Account       = "000000000000"
	DefaultRegion = "us-east-1"
)

// maxBody bounds a request; AWS query requests are far smaller.
const maxBody = 1 << 20

// Dial opens a connection to a target, like net.Dialer.DialContext.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Options of a Cloud. The zero value works.
type Options struct {
	// Region that requests must be signed for; "" means DefaultRegion.
	Region string
	// TimeScale is how many real seconds one second of AWS lasts, for health
	// intervals and timeouts and for the deregistration delay; 0 means 1. With
	// 0.2 the shortest interval that AWS allows (5 s) takes 1 s.
	TimeScale float64
	// Propagation is the real time from an accepted change of actions until
	// the balancers follow. AWS publishes no number.
	Propagation time.Duration
	// ConnectTimeout of the balancers towards targets; 0 means 10 s (ALB user
	// guide, HTTP 504).
	ConnectTimeout time.Duration
	// Dial reaches targets, for health checks and balancers; nil means the
	// process's own network.
	Dial Dial
	// Throttle turns the token buckets of the API on.
	Throttle bool
	// RandomChoice picks groups at random by weight, as ALB does; otherwise the
	// choice is smooth, and counts are exact.
	RandomChoice bool
	Logger       *slog.Logger
}

// Cloud is the fake. It is safe for concurrent use.
type Cloud struct {
	opts Options
	wake chan struct{} // the health checker looks again

	mu        sync.Mutex // guards all below
	seq       int
	vpcs      map[string]netip.Prefix
	subnets   map[string]*subnet
	balancers map[string]*loadBalancer
	listeners map[string]*listener
	rules     map[string]*rule
	groups    map[string]*group
	tables    map[string]*routeTable
	enis      map[string]*eni
	instances map[string]string    // id to state
	keys      map[string]AccessKey // by id
	faults    []*Fault
	buckets   map[string]*bucket
	calls     []CallRecord
	onHop     func(table string, prefix netip.Prefix, eni string, addr netip.Addr)
	after     []func() // to be called once mu is free
}

// New makes an empty cloud. Nothing runs until Run.
func New(opts Options) *Cloud {
	if opts.Region == "" {
		opts.Region = DefaultRegion
	}
	if opts.TimeScale == 0 {
		opts.TimeScale = 1
	}
	if opts.ConnectTimeout == 0 {
		opts.ConnectTimeout = 10 * time.Second
	}
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{}).DialContext
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cloud{
		opts:      opts,
		wake:      make(chan struct{}, 1),
		vpcs:      map[string]netip.Prefix{},
		subnets:   map[string]*subnet{},
		balancers: map[string]*loadBalancer{},
		listeners: map[string]*listener{},
		rules:     map[string]*rule{},
		groups:    map[string]*group{},
		tables:    map[string]*routeTable{},
		enis:      map[string]*eni{},
		instances: map[string]string{},
		keys:      map[string]AccessKey{},
		buckets:   map[string]*bucket{},
	}
}

// OnNextHop sets the hook that is called, without any lock held, whenever a
// route of a table begins to lead to an ENI.
func (c *Cloud) OnNextHop(f func(table string, prefix netip.Prefix, eni string, addr netip.Addr)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onHop = f
}

// CallRecord is one answered (or swallowed) API call.
type CallRecord struct {
	At      time.Time
	Took    time.Duration
	Service string // elasticloadbalancing, ec2, sts
	Action  string
	Params  url.Values
	Status  int    // HTTP status; 0: no answer was given
	Code    string // AWS error code; "" on success
}

// Calls returns the log of all calls so far, oldest first.
func (c *Cloud) Calls() []CallRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// ForgetCalls empties the log of calls.
func (c *Cloud) ForgetCalls() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}

type handler func(*Cloud, form) (any, error)

// ServeHTTP answers one API call.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := CallRecord{At: time.Now()}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	svc, f, err := c.accept(r)
	rec.Service, rec.Action, rec.Params = svc.name, f.get("Action"), f.vals
	rec.Params.Del("Version")

	var body []byte
	fault := c.takeFault(rec.Action)
	if fault != nil && fault.Delay > 0 {
		pause(r.Context(), fault.Delay)
	}
	var result any
	if err == nil && (fault == nil || !fault.stops() || fault.AfterEffect) {
		result, err = c.do(svc, f)
	}
	rec.Status = http.StatusOK
	switch {
	case fault != nil && fault.Drop:
		rec.Status = 0
		c.record(rec)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case fault != nil && fault.Garbage != "":
		if fault.HTTPStatus != 0 {
			rec.Status = fault.HTTPStatus
		}
		body = []byte(fault.Garbage)
	default:
		if err == nil && fault != nil {
			err = fault.err()
		}
		if err != nil {
			e := asAPIError(err)
			rec.Status, rec.Code = e.Status, e.Code
			body = svc.renderError(e)
			break
		}
		body = svc.render(rec.Action, result)
	}
	c.record(rec)
	w.Header().Set("Content-Type", svc.contentType())
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.WriteHeader(rec.Status)
	_, _ = w.Write(body) // the client may be gone
}

// accept reads the form and finds the service that the request is for.
func (c *Cloud) accept(r *http.Request) (service, form, error) {
	if forSTS(r) {
		return c.acceptSTS(r)
	}
	svc := services["elasticloadbalancing"]
	if r.Method != http.MethodPost {
		return svc, form{url.Values{}}, fail(http.StatusMethodNotAllowed, "InvalidAction", "the query protocol wants POST")
	}
	if err := r.ParseForm(); err != nil {
		return svc, form{url.Values{}}, fail(400, "MalformedQueryString", "%v", err)
	}
	f := form{r.PostForm}
	name, err := c.signedFor(r)
	if s, ok := services[name]; ok {
		svc = s
	}
	if err != nil {
		return svc, f, err
	}
	if v := f.get("Version"); v != svc.version {
		return svc, f, fail(400, "NoSuchVersion", "version %q of %s is unknown, want %s", v, svc.name, svc.version)
	}
	return svc, f, nil
}

// do runs the action and then, without the lock, the hooks it caused.
func (c *Cloud) do(svc service, f form) (any, error) {
	action := f.get("Action")
	h, ok := svc.actions[action]
	if !ok {
		return nil, fail(400, "InvalidAction", "action %q is not valid for this web service", action)
	}
	c.mu.Lock()
	if err := c.throttled(svc.name, action); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	result, err := h(c, f)
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		f()
	}
	c.poke()
	return result, err
}

// call runs an action without HTTP, signature, faults or throttling; seeds
// use it.
func (c *Cloud) call(svc, action string, kv ...string) (any, error) {
	f := form{url.Values{}}
	for i := 0; i+1 < len(kv); i += 2 {
		f.vals.Set(kv[i], kv[i+1])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := services[svc].actions[action](c, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return out, nil
}

func (c *Cloud) record(rec CallRecord) {
	rec.Took = time.Since(rec.At)
	c.mu.Lock()
	c.calls = append(c.calls, rec)
	c.mu.Unlock()
	c.opts.Logger.Debug("aws call", "action", rec.Action, "status", rec.Status, "code", rec.Code, "took", rec.Took)
}

// poke makes the health checker look at the targets again.
func (c *Cloud) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// scaled turns a duration of AWS into a real one.
func (c *Cloud) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.opts.TimeScale)
}

// newID makes unique hexadecimal ids that are the same in every run.
func (c *Cloud) newID() string {
	c.seq++
	return fmt.Sprintf("%016x", 0x50dc6c495c000000+uint64(c.seq))
}

func requestID() string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), rand.Uint64()>>16)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
