package agent

import (
	"drawbridge/agent/decide"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// Plan is the wish that holds now; nil before the first.
func (a *Agent) Plan() *decide.Plan {
	if a.brain == nil {
		return nil
	}
	return a.brain.plan.Load()
}

// Self is who the agent is.
func (a *Agent) Self() discovery.Identity { return a.id.self }

// Roll is what the agent was told by notices.
func (a *Agent) Roll() *pki.Roll { return a.trust.roll }
