package agent

import (
	"time"

	"drawbridge/agent/decide"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// Plan is the wish that holds now; nil before the first.
func (a *Agent) Plan() *decide.Plan {
	if a.brain == nil {
		return nil
	}
	return a.brain.plan.Load()
}

// Members are the nodes that the agent knows.
func (a *Agent) Members() []discovery.Member { return a.gossip.Members() }

// Self is who the agent is.
func (a *Agent) Self() discovery.Identity { return a.id.self }

// Roll is what the agent was told by notices.
func (a *Agent) Roll() *pki.Roll { return a.trust.roll }

// Hurry makes a gateway look for nodes that have gone, and ask EC2, this often.
// It is for before Run.
func (a *Agent) Hurry(every time.Duration) { a.pace = wardenPace{every, every} }

// Device is the agent's tunnel; nil before Run made it.
func (a *Agent) Device() tunnel.Device { return a.tunnel.device }
