package discovery

import (
	"errors"
	"net/netip"
	"time"
)

// Limits of ELBv2 that a wish must respect (Elastic Load Balancing quotas and
// API reference).
const (
	MaxWeight         = 999 // per target group in a forward action
	MaxGroupsInAction = 5   // not adjustable
)

// TargetState is ELB's own word for the health of a target.
type TargetState string

// The states of DescribeTargetHealth that we act upon.
const (
	TargetInitial     TargetState = "initial"
	TargetHealthy     TargetState = "healthy"
	TargetUnhealthy   TargetState = "unhealthy"
	TargetUnused      TargetState = "unused"
	TargetDraining    TargetState = "draining"
	TargetUnavailable TargetState = "unavailable"
)

// Target is one member of a target group as ELB reports it. Id and port
// together are its key.
type Target struct {
	ID     string // an address, an instance id or an ARN
	Port   uint16
	State  TargetState
	Reason string // ELB's code, for example Target.Timeout; "" when healthy
}

// TargetGroup is a reading of one target group. A failed reading keeps the
// last good Targets and Read, and says so in Err: unknown is never empty.
type TargetGroup struct {
	ID      string    // ARN
	Read    time.Time // of the last good reading; zero: never
	Err     string    // why the newest attempt failed; "" when it did not
	Targets []Target  // sorted by id, port
}

// Healthy counts the targets that ELB calls healthy.
func (g TargetGroup) Healthy() int {
	n := 0
	for _, t := range g.Targets {
		if t.State == TargetHealthy {
			n++
		}
	}
	return n
}

// GroupWeight is the weight of one target group in a forward action.
type GroupWeight struct {
	Group  string // ARN
	Weight int    // 0-999
}

// Split is a reading of one rule's forward action.
type Split struct {
	Rule    string
	Read    time.Time     // of the last good reading; zero: never
	Err     string        // why the newest attempt failed; "" when it did not
	Weights []GroupWeight // sorted by group
	Sticky  bool          // target-group stickiness is on
}

// NextHop is a reading of one VPC route table's route for the mesh prefix.
type NextHop struct {
	Table string
	Read  time.Time
	Err   string
	ENI   string // "" when there is no such route
	State string // active, blackhole; "" without a route
	// Local are the VPC's own networks, of which the table has routes that
	// nobody can take away; sorted. IPv4 only.
	Local []netip.Prefix
}

// Readings are the cloud's facts. Each list is sorted by its id.
type Readings struct {
	Groups   []TargetGroup
	Splits   []Split
	NextHops []NextHop
}

// TargetRef is a target to be registered.
type TargetRef struct {
	Addr netip.Addr
	Port uint16
}

// TargetWish is the wish for our part of one target group: within Owned,
// exactly Targets; outside it, whatever is there.
type TargetWish struct {
	Group   string
	Owned   netip.Prefix // the mesh prefix
	Targets []TargetRef  // sorted
	Reason  Reason
}

// SplitWish is the wish for one rule's weights. Weights not all zero, sorted
// by group. Groups of the rule that are not named keep their weight.
type SplitWish struct {
	Rule    string
	Weights []GroupWeight
	// Stickiness: nil keeps it, 0 switches it off, otherwise it is switched on
	// for so long. Whenever a weight is 0 it must be 0: cookies beat weights.
	Stickiness *time.Duration
	Reason     Reason
}

// NextHopWish is the wish for the mesh prefix in one VPC route table.
type NextHopWish struct {
	Table  string
	Prefix netip.Prefix // masked
	ENI    string
	Reason Reason
}

// CloudWish is the whole wish for AWS. A nil list means keep what is there;
// Write false means: only read (this node is not the leader, or in doubt).
type CloudWish struct {
	Write    bool
	Urgent   bool // read every second instead of at rest's pace
	Read     CloudRead
	Targets  []TargetWish
	Splits   []SplitWish
	NextHops []NextHopWish
}

// CloudRead names what is to be read, each list sorted.
type CloudRead struct {
	Groups []string
	Rules  []string
	Tables []string
	Prefix netip.Prefix
}

// Call is one AWS call, made or only planned, for `plan` and the log.
type Call struct {
	Service string // elasticloadbalancing, ec2
	Action  string // ModifyRule, RegisterTargets, ...
	Object  string // the ARN or id acted upon
	Detail  string // for people: what changes
	Reason  Reason
}

// Errors that AWS hands translate foreign codes into.
var (
	ErrThrottled   = errors.New("throttled by AWS")
	ErrDenied      = errors.New("denied by AWS")
	ErrNotFound    = errors.New("not found in AWS")
	ErrUnavailable = errors.New("AWS did not answer")
	ErrRefused     = errors.New("refused by AWS")
)
