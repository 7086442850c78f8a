package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLabUDPBlocked: a machine room whose firewall lets nothing out but TCP to
// port 443 joins, serves, and is seen to go dark as fast as any other. When the
// firewall opens, the tunnels go back to UDP; when it closes again, to TLS.
func TestLabUDPBlocked(t *testing.T) {
	if os.Getenv(labEnv) != "long" {
		t.Skip("a minute and a half: make lab-long runs it; tunnel/stream and the stories of agent/decide tell its parts")
	}
	const binaryEnv = "DRAWBRIDGE_LAB_BINARY"
	if !Inside() {
		t.Setenv(binaryEnv, buildBinary(t))
	}
	if !inNamespaces(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	began := time.Now()
	s, err := open(ctx, Options{
		Binary: os.Getenv(binaryEnv), Mode: Namespaces, Dir: filepath.Join(shortDir(t), "lab"), Out: logger{t}, Firewalled: true, Servers: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("mesh complete, requests flow: after %.1f s", time.Since(began).Seconds())
	const server, gateway = "gpu-1", "gw-a"
	carried := func(how string) func(context.Context) error {
		return func(ctx context.Context) error { return s.reachedBy(ctx, how) }
	}
	await(ctx, t, "all by TLS", 10*time.Second, carried("stream (TLS"))
	await(ctx, t, "said so", 5*time.Second, func(ctx context.Context) error {
		st, err := s.Agent(server).Status(ctx)
		if err == nil && !unwell(st, "udp-blocked") {
			err = fmt.Errorf("health %+v", st.Health)
		}
		return err
	})
	s.figures(ctx, t, "over TLS", server, gateway)

	// Dark as fast as ever.
	cut := time.Now()
	if err := s.Cut(SiteRoom); err != nil {
		t.Fatal(err)
	}
	verdict := func(want string) func(context.Context) error {
		return func(ctx context.Context) error {
			st, err := s.Agent(gateway).Status(ctx)
			if err != nil {
				return err
			}
			if site, _ := siteIn(st, SiteRoom); site.Verdict != want {
				return fmt.Errorf("%s is %s (%s)", SiteRoom, site.Verdict, site.Reason)
			}
			return nil
		}
	}
	await(ctx, t, "seen dark", 5*time.Second, verdict("dark"))
	if d := time.Since(cut); d > 3*time.Second {
		t.Errorf("dark after %s, want at most 3 s", d)
	}
	if err := s.Heal(SiteRoom); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "up again", 15*time.Second, verdict("up"))

	// The firewall opens: back to UDP, and what is asked through the tunnel meanwhile.
	asked := s.ask(ctx, t, gateway, server)
	if err := s.Firewall(false); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "all by UDP", 90*time.Second, carried("direct "))
	if err := sleep(ctx, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	all, failed, _ := asked()
	t.Logf("on the way back to UDP %d of %d requests failed", failed, all)
	if failed > all/100 {
		t.Errorf("on the way back to UDP %d of %d requests failed, want at most one of a hundred", failed, all)
	}
	s.figures(ctx, t, "by UDP", server, gateway)

	// It closes again, while all runs.
	asked = s.ask(ctx, t, gateway, server)
	if err := s.Firewall(true); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "all by TLS again", 20*time.Second, carried("stream (TLS"))
	await(ctx, t, "up by TLS", 10*time.Second, verdict("up"))
	all, failed, gap := asked()
	t.Logf("UDP blocked in the midst: %d of %d requests failed, none was answered for %.1f s", failed, all, gap.Seconds())
	if gap > 8*time.Second {
		t.Errorf("nothing was answered for %s, want at most 8 s", gap)
	}
}

// reachedBy checks that every server and gateway reach each other so, with
// fresh proof.
func (s *scene) reachedBy(ctx context.Context, how string) error {
	for _, n := range s.Map().Nodes {
		st, err := s.Agent(n.Name).Status(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		for _, m := range st.Members {
			other, _ := s.Map().Node(m.Name)
			if other.Gateway == n.Gateway {
				continue
			}
			if !strings.HasPrefix(m.Path, how) || m.ProofAge == nil || *m.ProofAge > 2 {
				return fmt.Errorf("%s reaches %s by %q, proof %v", n.Name, m.Name, m.Path, m.ProofAge)
			}
		}
	}
	return nil
}

// figures draws one TCP stream from the server, and reads round trips of pulses.
func (s *scene) figures(ctx context.Context, t *testing.T, how, server, gateway string) {
	t.Helper()
	m, err := s.member(ctx, gateway, server)
	if err != nil {
		t.Fatal(err)
	}
	srv, _ := s.Map().Node(server)
	gw, _ := s.Map().Node(gateway)
	p := pair{gateway: gw, server: srv, overlay: netip.MustParseAddr(m.Addr)}
	d, err := s.drawFrom(ctx, p, p.overlay, agentName(gateway), agentName(server))
	if err != nil {
		t.Fatal(err)
	}
	var trips []float64
	for range 20 {
		if m, err = s.member(ctx, gateway, server); err == nil && m.RTT != nil {
			trips = append(trips, 1000*float64(*m.RTT))
		}
		if err := sleep(ctx, 60*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(trips)
	if len(trips) == 0 {
		t.Fatal("no round trips")
	}
	t.Logf("%s: one TCP stream %.2f Gbit/s at %.1f s of CPU a GB; pulse p50 %.2f ms", how, d.gigabits, d.cpuPerGB, trips[len(trips)/2])
}

// ask asks a server's own application through the overlay, twenty times a
// second, until the returned function is called: how many were asked, how many
// failed, and the longest time without an answer.
func (s *scene) ask(ctx context.Context, t *testing.T, from, server string) func() (all, failed int, gap time.Duration) {
	t.Helper()
	m, err := s.member(ctx, from, server)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(m.Addr), appPort)
	h := s.ground.(*namespaces).hosts[from]
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var all, failed int
	var gap time.Duration
	last := time.Now()
	var tasks sync.WaitGroup
	tasks.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			tasks.Go(func() {
				_, err := askFrom(ctx, h, to)
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				all++
				if err != nil {
					failed++
					return
				}
				gap, last = max(gap, time.Since(last)), time.Now()
			})
		}
	})
	return func() (int, int, time.Duration) {
		cancel()
		tasks.Wait()
		mu.Lock()
		defer mu.Unlock()
		return all, failed, gap
	}
}
