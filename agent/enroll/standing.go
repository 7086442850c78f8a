package enroll

import (
	"context"
	"fmt"
	"time"
)

// Standing is what a gateway thinks of a node.
type Standing string

// The standings.
const (
	StandingOK          Standing = "ok" // also when the certificate has ended
	StandingRevoked     Standing = "revoked"
	StandingQuarantined Standing = "quarantined"
	StandingUnknown     Standing = "unknown" // its certificates say nothing here
)

// standing answers a hello. It touches no disk, so that strangers may ask.
func (t trust) standing(c *call) Standing {
	if _, ok := t.roll.Revoked(c.id); ok {
		return StandingRevoked
	}
	if _, ok := t.roll.Quarantined(c.id); ok {
		return StandingQuarantined
	}
	if _, err := t.member(c); err != nil {
		return StandingUnknown
	}
	return StandingOK
}

// greeted answers a hello, and tells of who stands well.
func (s *Server) greeted(t trust, c *call) Standing {
	is := t.standing(c)
	if is == StandingOK && s.opts.Greeted != nil {
		s.opts.Greeted(c.id, c.Chain)
	}
	return is
}

// Greeting is the answer to a hello.
type Greeting struct {
	Gateway  string        // its name
	Skew     time.Duration // this clock minus the gateway's, to half the round trip
	Took     time.Duration // the round trip
	Standing Standing
}

// Hello compares clocks with the first gateway that answers, and asks how this
// node stands: what to know when a tunnel does not come up.
func Hello(ctx context.Context, o RenewOptions) (Greeting, error) {
	m, err := o.member()
	if err != nil {
		return Greeting{}, fmt.Errorf("greet gateway: %w", err)
	}
	m.line.anytime = true
	ctx, cancel := context.WithTimeout(ctx, allGateways)
	defer cancel()
	var got Greeting
	err = m.each(ctx, func(g *gateway) *Error {
		before := m.line.now()
		ans, bad := g.ask(m.question(kindHello), m.keys, nil)
		if bad != nil {
			return bad
		}
		got = Greeting{Gateway: g.id.Name, Took: m.line.now().Sub(before), Standing: ans.Standing}
		got.Skew = before.Add(got.Took / 2).Sub(ans.Time)
		return nil
	})
	if err != nil {
		return Greeting{}, fmt.Errorf("greet gateway: %w", err)
	}
	return got, nil
}
