package discovery

// Reason is the one word that log, metric, status and `why` print for a
// decision. New reasons are added here, with their meaning.
type Reason string

// Reasons of verdicts.
const (
	ReasonProof       Reason = "proof"        // at least one node answers an observer
	ReasonAllDark     Reason = "all-dark"     // every observer that may vote says dark
	ReasonAloneDark   Reason = "alone-dark"   // the only observer left says dark, and long enough
	ReasonStarting    Reason = "starting"     // no observer has seen enough yet
	ReasonPaused      Reason = "paused"       // the observer's own process stood still
	ReasonIsolated    Reason = "isolated"     // the observer hears nobody at all
	ReasonSendErrors  Reason = "send-errors"  // the observer cannot send
	ReasonDisagree    Reason = "disagree"     // observers differ, or a view is not fresh
	ReasonNoNodes     Reason = "no-nodes"     // the site has no nodes to observe
	ReasonNotObserver Reason = "not-observer" // this node is not a gateway
	ReasonAlone       Reason = "alone"        // the only voice says dark, but not for long enough
)

// Reasons of weights, targets and VPC routes.
const (
	ReasonNormal        Reason = "normal"          // as configured
	ReasonSiteDark      Reason = "site-dark"       // weight 0 until the site returns
	ReasonHoldDown      Reason = "hold-down"       // back, but not long enough
	ReasonUnhealthy     Reason = "targets-not-yet" // back, but ELB does not call its targets healthy
	ReasonRamp          Reason = "ramp"            // on the way back to normal
	ReasonUndecided     Reason = "undecided"       // verdict not known: keep
	ReasonUnread        Reason = "aws-unread"      // AWS state not known: keep
	ReasonNoAlternative Reason = "no-alternative"  // no other pool could carry it: keep
	ReasonAllZero       Reason = "all-zero"        // every pool is dark: keep
	ReasonUnsettled     Reason = "unsettled"       // membership still changing: keep
	ReasonForeign       Reason = "foreign-change"  // somebody else raised a weight that we had set to 0: keep
	ReasonStandby       Reason = "standby"         // carries the share of a dark site; normally 0
	ReasonRateLimit     Reason = "rate-limit"      // a return is delayed: too many changes in a minute
	ReasonNotLeader     Reason = "not-leader"      // another gateway writes
	ReasonLowest        Reason = "lowest-gateway"  // writes: the lowest living gateway, there is no lease store
	ReasonLease         Reason = "lease"           // writes: it holds the lease
	ReasonNoLease       Reason = "no-lease"        // nobody writes: no lease is held
	ReasonServing       Reason = "serving"         // registered: healthy and known
	ReasonLost          Reason = "lost"            // deregistered: gone for long enough
	ReasonLastTarget    Reason = "last-target"     // kept: the last one is never taken out
	ReasonGatewayAlive  Reason = "gateway-alive"   // route stays with a living gateway
	ReasonGatewayDead   Reason = "gateway-dead"    // route moves to a living gateway
	ReasonDraining      Reason = "draining"        // route moves away from a gateway that leaves
	ReasonRouteMissing  Reason = "route-missing"   // there is no route yet
)

// Reasons of revocations and quarantine.
const (
	ReasonOperator   Reason = "operator"   // a person said so
	ReasonWentAway   Reason = "left"       // the node itself left for good
	ReasonEphemeral  Reason = "ephemeral"  // a node made to come and go has gone
	ReasonTerminated Reason = "terminated" // its cloud instance no longer exists
	ReasonReplaced   Reason = "replaced"   // a rebuilt host took its name
	ReasonClone      Reason = "clone"      // two hosts use one identity
)
