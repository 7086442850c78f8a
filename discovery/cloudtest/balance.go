package cloudtest

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Headers that a Balancer adds to every answer, its own errors included.
const (
	HeaderPool   = "X-Drawbridge-Pool"   // name of the target group
	HeaderTarget = "X-Drawbridge-Target" // address and port of the target
)

// stickyCookie is ALB's cookie of target-group stickiness (ALB user guide).
const stickyCookie = "AWSALBTG"

// idleTimeout until a silent target is given up with 504 (idle_timeout.timeout_seconds).
const idleTimeout = 60 * time.Second

// Balancer is the data plane of a load balancer, of one of its listeners, or
// of one rule, given by ARN. A load balancer is represented by its first
// listener. It follows changes after Options.Propagation.
func (c *Cloud) Balancer(arn string) http.Handler {
	return &balancer{c: c, arn: arn, smooth: map[string]map[string]int{}, turn: map[string]int{}}
}

type balancer struct {
	c   *Cloud
	arn string

	mu     sync.Mutex                // guards the two below
	smooth map[string]map[string]int // rule to group to credit
	turn   map[string]int            // group to the next target
}

// choice is where a request goes.
type choice struct {
	pool   string // name of the group
	group  string // ARN
	addr   string // "" when the group is empty
	sticky time.Duration
}

// ServeHTTP forwards one request, once.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	act, ruleARN, ok := b.match(r)
	switch {
	case !ok:
		http.Error(w, "no such load balancer", http.StatusServiceUnavailable)
		return
	case act.FixedResponseConfig != nil:
		code, _ := strconv.Atoi(act.FixedResponseConfig.StatusCode) // checked when set
		http.Error(w, act.FixedResponseConfig.MessageBody, code)
		return
	case act.ForwardConfig == nil:
		http.Error(w, "this fake balances forward and fixed-response only", http.StatusNotImplemented)
		return
	}
	ch := b.choose(r, ruleARN, act.ForwardConfig)
	w.Header().Set(HeaderPool, ch.pool)
	if ch.addr == "" { // ALB user guide, HTTP 503: no registered targets
		http.Error(w, "503 no registered targets", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set(HeaderTarget, ch.addr)
	if ch.sticky > 0 {
		http.SetCookie(w, makeCookie(ch, time.Now()))
	}
	b.forward(w, r, ch.addr)
}

// match finds the last action of the first rule that fits the request.
func (b *balancer) match(r *http.Request) (action, string, bool) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	now := time.Now()
	last := func(x *rule) (action, string, bool) {
		acts := x.effective(now)
		return acts[len(acts)-1], x.arn, true
	}
	if x := b.c.rules[b.arn]; x != nil {
		return last(x)
	}
	arn := b.arn
	if b.c.balancers[arn] != nil {
		first := (*listener)(nil)
		for _, l := range b.c.listeners {
			if l.lb == b.arn && (first == nil || l.port < first.port) {
				first = l
			}
		}
		if first == nil {
			return action{}, "", false
		}
		arn = first.arn
	}
	if b.c.listeners[arn] == nil {
		return action{}, "", false
	}
	for _, x := range b.c.rulesOf(arn) {
		if x.fits(r) {
			return last(x)
		}
	}
	return action{}, "", false
}

// fits: every condition, any of its values.
func (r *rule) fits(req *http.Request) bool {
	for _, c := range r.conditions {
		subject := req.URL.Path
		if c.Field == "host-header" {
			subject = strings.ToLower(req.Host)
		}
		hit := false
		for _, v := range c.Values.List {
			hit = hit || wildcard(v, subject)
		}
		if !hit {
			return false
		}
	}
	return true
}

// wildcard: * is any text, slashes included, ? one character.
func wildcard(pattern, s string) bool {
	flat := strings.NewReplacer("/", "\x00", "[", `\[`, `\`, `\\`)
	ok, err := path.Match(flat.Replace(pattern), strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && ok
}

// choose picks the group by cookie or weight, and in it the next target:
// healthy ones, or all when none is (fail-open, ALB user guide).
func (b *balancer) choose(r *http.Request, ruleARN string, fw *forward) choice {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	arn := ""
	if fw.Stickiness.Enabled {
		arn = readCookie(r, fw, now)
	}
	if arn == "" {
		arn = b.pick(ruleARN, fw.TargetGroups.List)
	}
	g := b.c.groups[arn]
	ch := choice{pool: g.name, group: arn}
	if fw.Stickiness.Enabled {
		ch.sticky = time.Duration(fw.Stickiness.DurationSeconds) * time.Second
	}
	var healthy, all []*target
	for _, t := range g.sorted(now) {
		if t.draining() {
			continue
		}
		all = append(all, t)
		if t.state == "healthy" {
			healthy = append(healthy, t)
		}
	}
	if len(healthy) > 0 {
		all = healthy
	}
	if len(all) > 0 {
		t := all[b.turn[arn]%len(all)]
		b.turn[arn]++
		ch.addr = netip.AddrPortFrom(t.key.addr, t.key.port).String()
	}
	return ch
}

// pick chooses by weight: at random, or smoothly (every group earns its
// weight, the richest pays the sum), which makes counts exact.
func (b *balancer) pick(ruleARN string, tuples []tuple) string {
	sum := 0
	for _, t := range tuples {
		sum += t.Weight
	}
	if b.c.opts.RandomChoice && sum > 0 {
		n := rand.IntN(sum)
		for _, t := range tuples {
			if n -= t.Weight; n < 0 {
				return t.TargetGroupArn
			}
		}
	}
	credit := b.smooth[ruleARN]
	if credit == nil {
		credit = map[string]int{}
		b.smooth[ruleARN] = credit
	}
	best := ""
	for _, t := range tuples {
		if t.Weight == 0 {
			delete(credit, t.TargetGroupArn)
			continue
		}
		credit[t.TargetGroupArn] += t.Weight
		if best == "" || credit[t.TargetGroupArn] > credit[best] {
			best = t.TargetGroupArn
		}
	}
	credit[best] -= sum
	return best
}

// makeCookie and readCookie: the cookie names the group and when it ends. It
// beats weights, even 0, as long as the group is in the action.
func makeCookie(ch choice, now time.Time) *http.Cookie {
	end := now.Add(ch.sticky)
	v := base64.RawURLEncoding.EncodeToString([]byte(ch.group + " " + strconv.FormatInt(end.Unix(), 10)))
	return &http.Cookie{Name: stickyCookie, Value: v, Path: "/", Expires: end, HttpOnly: true}
}

func readCookie(r *http.Request, fw *forward, now time.Time) string {
	ck, err := r.Cookie(stickyCookie)
	if err != nil {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(ck.Value)
	if err != nil {
		return ""
	}
	arn, end, _ := strings.Cut(string(raw), " ")
	secs, err := strconv.ParseInt(end, 10, 64)
	if err != nil || now.Unix() >= secs {
		return ""
	}
	for _, t := range fw.TargetGroups.List {
		if t.TargetGroupArn == arn {
			return arn
		}
	}
	return ""
}

// forward proxies one request, once.
func (b *balancer) forward(w http.ResponseWriter, r *http.Request, addr string) {
	proxy := &httputil.ReverseProxy{
		Transport: once{b.c.opts.Dial, b.c.opts.ConnectTimeout},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", addr
			p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
			p.SetXForwarded()
			p.Out.Host = p.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, "forward to "+addr+": "+err.Error(), gatewayStatus(r, err))
		},
	}
	proxy.ServeHTTP(w, r)
}

// gatewayStatus: 504 for a time-out, 460 when the client left first, 502 for
// the rest (ALB user guide, troubleshooting by HTTP code).
func gatewayStatus(r *http.Request, err error) int {
	if r.Context().Err() != nil {
		return 460
	}
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
