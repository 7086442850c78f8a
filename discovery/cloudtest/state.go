package cloudtest

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

type subnet struct {
	id, vpc, zone string
	cidr          netip.Prefix
}

type loadBalancer struct {
	arn, name, typ, vpc string // typ: application | network
	subnets             []*subnet
	created             time.Time
}

type listener struct {
	arn, lb, protocol string
	port              int
}

// rule is a listener rule; the default rule carries the listener's default
// actions. Its actions have a history: the data plane follows later.
type rule struct {
	arn, listener string
	priority      int // 0: the default rule
	conditions    []condition
	actions       []action // as configured
	oidcSecret    string   // kept by AWS, never returned
	history       []version
}

func (r *rule) isDefault() bool { return r.priority == 0 }

// version is what a balancer does from an instant on.
type version struct {
	from    time.Time
	actions []action
}

// set stores actions that the data plane follows at the given time.
func (r *rule) set(actions []action, from time.Time) {
	r.actions = actions
	r.history = append(r.history, version{from, actions})
}

// effective is what the data plane does now.
func (r *rule) effective(now time.Time) []action {
	for len(r.history) > 1 && !r.history[1].from.After(now) {
		r.history = r.history[1:]
	}
	return r.history[0].actions
}

// The fields are those of the wire format, so that state is the answer.
type condition struct {
	Field  string          `xml:"Field"`
	Values members[string] `xml:"Values"`
}

type action struct {
	Type                string         `xml:"Type"`
	Order               int            `xml:"Order,omitempty"`
	TargetGroupArn      string         `xml:"TargetGroupArn,omitempty"`
	ForwardConfig       *forward       `xml:"ForwardConfig"`
	FixedResponseConfig *fixedResponse `xml:"FixedResponseConfig"`
	RedirectConfig      *redirect      `xml:"RedirectConfig"`
	OIDC                *oidc          `xml:"AuthenticateOidcConfig"`
}

type forward struct {
	TargetGroups members[tuple] `xml:"TargetGroups"`
	Stickiness   stickiness     `xml:"TargetGroupStickinessConfig"`
}

type tuple struct {
	TargetGroupArn string `xml:"TargetGroupArn"`
	Weight         int    `xml:"Weight"`
}

type stickiness struct {
	Enabled         bool `xml:"Enabled"`
	DurationSeconds int  `xml:"DurationSeconds,omitempty"`
}

type fixedResponse struct {
	StatusCode  string `xml:"StatusCode"`
	ContentType string `xml:"ContentType,omitempty"`
	MessageBody string `xml:"MessageBody,omitempty"`
}

type redirect struct {
	StatusCode string `xml:"StatusCode"`
	Host       string `xml:"Host,omitempty"`
	Path       string `xml:"Path,omitempty"`
	Port       string `xml:"Port,omitempty"`
	Protocol   string `xml:"Protocol,omitempty"`
}

type oidc struct {
	Issuer                string `xml:"Issuer"`
	AuthorizationEndpoint string `xml:"AuthorizationEndpoint"`
	TokenEndpoint         string `xml:"TokenEndpoint"`
	UserInfoEndpoint      string `xml:"UserInfoEndpoint"`
	ClientID              string `xml:"ClientId"`
	Scope                 string `xml:"Scope,omitempty"`
}

type group struct {
	arn, name, protocol, vpc string
	port                     int
	check                    healthCheck
	attrs                    map[string]string
	targets                  map[targetKey]*target
}

type healthCheck struct {
	protocol, path, matcher string
	port                    string // number or traffic-port
	interval, timeout       time.Duration
	healthy, unhealthy      int
}

// targetKey: id and port together are the key of a target (API reference,
// RegisterTargets).
type targetKey struct {
	addr netip.Addr
	port uint16
}

type target struct {
	key           targetKey
	zone          string // as given: a zone, all, or the subnet's own
	state, reason string
	passed        int // health checks in a row
	failed        int
	checking      bool
	next          time.Time // of the next health check
	pinned        bool      // SetHealth overrides checks
	drainUntil    time.Time // zero: registered
}

func (t *target) draining() bool { return !t.drainUntil.IsZero() }

// sorted returns the targets by address and port, without those whose
// draining is over.
func (g *group) sorted(now time.Time) []*target {
	out := make([]*target, 0, len(g.targets))
	for k, t := range g.targets {
		if t.draining() && !now.Before(t.drainUntil) {
			delete(g.targets, k)
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *target) int {
		if d := a.key.addr.Compare(b.key.addr); d != 0 {
			return d
		}
		return int(a.key.port) - int(b.key.port)
	})
	return out
}

func (c *Cloud) arn(kind string, path ...string) string {
	return "arn:aws:elasticloadbalancing:" + c.opts.Region + ":" + Account + ":" + kind + "/" + strings.Join(path, "/")
}

// suffix is the part of an ARN behind its kind.
func suffix(arn string) string {
	_, rest, _ := strings.Cut(arn, "/")
	return rest
}

// groupsOf lists the target groups that actions forward to.
func groupsOf(actions []action) []string {
	var out []string
	for _, a := range actions {
		if a.ForwardConfig == nil {
			continue
		}
		for _, t := range a.ForwardConfig.TargetGroups.List {
			out = append(out, t.TargetGroupArn)
		}
	}
	return out
}

// lbsOf lists the load balancers whose rules use a group, sorted.
func (c *Cloud) lbsOf(groupARN string) []string {
	var out []string
	for _, r := range c.rules {
		if slices.Contains(groupsOf(r.actions), groupARN) {
			out = append(out, c.listeners[r.listener].lb)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// zonesOf lists the zones of a load balancer, sorted.
func (l *loadBalancer) zones() []string {
	var out []string
	for _, s := range l.subnets {
		out = append(out, s.zone)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
