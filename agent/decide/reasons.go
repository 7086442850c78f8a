package decide

import "drawbridge/discovery"

// reasonText is a reason's word with its meaning, for people.
func reasonText(r discovery.Reason) string {
	if text, ok := meanings[r]; ok {
		return string(r) + " (" + text + ")"
	}
	return string(r)
}

var meanings = map[discovery.Reason]string{
	discovery.ReasonProof:         "at least one node answers",
	discovery.ReasonAllDark:       "no gateway gets an answer",
	discovery.ReasonAloneDark:     "the only gateway that can tell gets no answer",
	discovery.ReasonAlone:         "the only gateway that can tell waits a little longer",
	discovery.ReasonStarting:      "this agent has just started",
	discovery.ReasonPaused:        "this agent's own process stood still",
	discovery.ReasonIsolated:      "this gateway hears nobody, so the fault may be its own",
	discovery.ReasonSendErrors:    "this gateway cannot send",
	discovery.ReasonDisagree:      "another gateway has not said lately what it sees",
	discovery.ReasonNoNodes:       "no node of the site is known",
	discovery.ReasonNotObserver:   "only gateways judge sites",
	discovery.ReasonNormal:        "as configured",
	discovery.ReasonSiteDark:      "no traffic to a dark site",
	discovery.ReasonHoldDown:      "the site is back, but not long enough",
	discovery.ReasonUnhealthy:     "the site is back, but the load balancer does not call enough targets healthy",
	discovery.ReasonRamp:          "on the way back to normal",
	discovery.ReasonUndecided:     "the site's verdict is not known, nothing moves",
	discovery.ReasonUnread:        "what AWS has is not known, nothing moves",
	discovery.ReasonNoAlternative: "no other pool has a healthy target, nothing moves",
	discovery.ReasonAllZero:       "every pool is dark, nothing moves",
	discovery.ReasonUnsettled:     "membership has not settled since the start, nothing moves",
	discovery.ReasonForeign:       "somebody else changed what this gateway wrote, and is not fought over",
	discovery.ReasonStandby:       "carries the share of a site that is away",
	discovery.ReasonRateLimit:     "delayed, too many changes within a minute",
	discovery.ReasonNotLeader:     "another gateway writes",
	discovery.ReasonLowest:        "the lowest living gateway, there is no lease store",
	discovery.ReasonLease:         "holds the lease",
	discovery.ReasonNoLease:       "nobody holds the lease",
	discovery.ReasonServing:       "healthy and known",
	discovery.ReasonLost:          "other targets were gone for too long and are taken out",
	discovery.ReasonLastTarget:    "the last one is never taken out",
	discovery.ReasonGatewayAlive:  "its gateway is alive",
	discovery.ReasonGatewayDead:   "the gateway before is dead",
	discovery.ReasonDraining:      "the gateway before drains",
	discovery.ReasonRouteMissing:  "there was no route",
	discovery.ReasonOperator:      "a person said so",
	discovery.ReasonWentAway:      "it left for good",
	discovery.ReasonEphemeral:     "it was made to come and go, and has gone",
	discovery.ReasonTerminated:    "its cloud instance no longer exists",
	discovery.ReasonReplaced:      "a rebuilt host took its name",
	discovery.ReasonClone:         "two hosts use one identity",
}
