package lab

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"drawbridge/agent/api"
)

// TestLabRenewal lives through several lives of certificates, half of them
// without the gateway that issued them.
func TestLabRenewal(t *testing.T) {
	if os.Getenv("DRAWBRIDGE_LAB") != "long" {
		t.Skip("three minutes of certificates' lives: make lab-long runs it; agent's TestAttackGatewayLost tells the same in one")
	}
	t.Parallel()
	const life = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	s := raise(ctx, t, Options{NodeLife: life})
	plan := s.Map()
	lost, left := plan.Nodes[0].Name, plan.Nodes[1].Name
	var servers []string
	for _, n := range plan.Nodes {
		if !n.Gateway {
			servers = append(servers, n.Name)
		}
	}
	certificates := func() map[string]api.Certificate {
		t.Helper()
		tr, err := s.Agent(left).Trust(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]api.Certificate{}
		for _, c := range tr.Certificates {
			out[c.Name] = c
		}
		return out
	}
	watch := func(d time.Duration, gateways ...string) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); {
			for _, g := range gateways {
				if err := s.proven(ctx, g, servers); err != nil {
					t.Fatal(err)
				}
			}
			if err := sleep(ctx, 250*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
	}
	renewed := func(since map[string]api.Certificate) {
		t.Helper()
		for name, c := range certificates() {
			was := since[name]
			t.Logf("%s: issuer %s, renewer %q, until %s, was %s", name, c.Issuer, c.Renewer, c.NotAfter, was.NotAfter)
			if slices.Contains(servers, name) && c.NotAfter.Sub(was.NotAfter) < life/4 {
				t.Errorf("%s was not renewed", name)
			}
		}
	}
	first := certificates()
	watch(life*5/4, lost, left)
	renewed(first)

	if err := s.Kill(lost); err != nil {
		t.Fatal(err)
	}
	second := certificates()
	// A life and a half: whatever the lost gateway signed last has ended.
	watch(life*3/2, left)
	renewed(second)
	for name, c := range certificates() {
		if slices.Contains(servers, name) && (c.Issuer != lost || c.Renewer != left || !c.NotAfter.After(time.Now())) {
			t.Errorf("%s: issuer %s, renewer %q, until %s; want it issued by %s and renewed by %s", name, c.Issuer, c.Renewer, c.NotAfter, lost, left)
		}
	}
}

// proven checks that a gateway has fresh answers of all servers.
func (l *Lab) proven(ctx context.Context, gateway string, servers []string) error {
	st, err := l.Agent(gateway).Status(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", gateway, err)
	}
	fresh := 0
	for _, m := range st.Members {
		if !slices.Contains(servers, m.Name) {
			continue
		}
		if m.ProofAge == nil || *m.ProofAge > 10 {
			return fmt.Errorf("%s has no fresh proof of %s: %v; health %+v", gateway, m.Name, m.ProofAge, st.Health)
		}
		fresh++
	}
	if fresh != len(servers) {
		return fmt.Errorf("%s lists %d of %d servers", gateway, fresh, len(servers))
	}
	return nil
}
