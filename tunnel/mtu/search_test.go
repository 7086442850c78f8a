package mtu

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drawbridge/tunnel"
)

// path is a way to a peer with the prober of its near end: once a second a
// packet of the asked size, five times when it arrives. The rule sees what the
// prober found with a delay.
type path struct {
	now    time.Time
	limit  int
	carry  int     // largest overlay packet that passes
	loss   float64 // of any packet with its answer
	down   bool    // nothing passes
	deaf   bool    // the peer is of an older version
	rng    *rand.Rand
	mem    Memory
	last   time.Time // newest proof
	sent   uint64
	at     netip.AddrPort
	tried  int
	due    time.Time
	flying bool // a packet whose fate is known at due
	whole  int
	lost   int
	seen   Facts
	seenAt time.Time
	probes int
}

const tick = 50 * time.Millisecond

func newPath(limit, carry int) *path {
	return &path{
		now: time.Unix(1000, 0), limit: limit, carry: carry, rng: rand.New(rand.NewPCG(1, 2)),
		at: netip.MustParseAddrPort("203.0.113.1:51820"),
	}
}

func (p *path) step() {
	p.now = p.now.Add(tick)
	if !p.down && p.rng.Float64() >= p.loss {
		p.last = p.now
	}
	if p.mem.Asked != p.tried {
		p.tried, p.due, p.flying, p.whole, p.lost = p.mem.Asked, p.now, false, 0, 0
	}
	if p.tried != 0 && !p.deaf && !p.now.Before(p.due) {
		if p.flying {
			p.whole, p.lost = 0, p.lost+1
		}
		p.probes++
		p.flying = p.down || padded(p.tried, p.limit) > p.carry || p.rng.Float64() < p.loss
		p.due = p.now.Add(time.Second)
		if !p.flying {
			p.whole, p.lost, p.due = p.whole+1, 0, p.now.Add(200*time.Millisecond)
		}
	}
	if p.now.Sub(p.seenAt) >= 250*time.Millisecond {
		p.seenAt = p.now
		p.seen = Facts{Tried: p.tried, Whole: p.whole, Lost: p.lost}
	}
	f := p.seen
	f.Limit, f.Fresh, f.At, f.Sent = p.limit, p.now.Sub(p.last) <= 2*time.Second, p.at, p.sent
	p.mem = p.mem.Step(p.now, f, true)
}

// padded is what WireGuard makes of a packet.
func padded(size, limit int) int { return min((size+15)/16*16, max(size, limit)) }

func (p *path) run(d time.Duration) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.step()
	}
}

// until lets time pass until the size in force is want, and says how long it took.
func (p *path) until(t *testing.T, want int, most time.Duration) time.Duration {
	t.Helper()
	start := p.now
	for p.mem.MTU(p.limit) != want {
		if p.now.Sub(start) > most {
			t.Fatalf("%d in force after %v, want %d: %+v", p.mem.MTU(p.limit), most, want, p.mem)
		}
		p.step()
	}
	return p.now.Sub(start)
}

func TestSearchFinds(t *testing.T) {
	for _, tt := range []struct {
		name               string
		device, outer, ip6 int
		want               int
		within             time.Duration
	}{
		{"Ethernet", 1440, 1500, 0, 1440, 2 * time.Second},
		{"Ethernet over IPv6", 1440, 1500, 20, 1408, 12 * time.Second},
		{"PPPoE from Ethernet", 1440, 1492, 0, 1424, 12 * time.Second},
		{"PPPoE at the own link", 1432, 1492, 0, 1432, 2 * time.Second},
		{"1400", 1440, 1400, 0, 1328, 15 * time.Second},
		{"jumbo", 8941, 9001, 0, 8941, 2 * time.Second},
		{"jumbo link, path to the internet", 8941, 1500, 0, 1440, 8 * time.Second},
		{"jumbo link, transit gateway", 8941, 8500, 0, 8432, 20 * time.Second},
		{"least of IPv6, over IPv6", 1440, 1280, 20, 1200, 20 * time.Second},
		{"very small", 1440, 700, 0, 576, 30 * time.Second},
		{"fixed at the base", 1280, 1500, 0, 1280, 2 * time.Second},
		{"fixed below the base", 1200, 1500, 0, 1200, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(tt.device, tt.outer-overhead-tt.ip6)
			if got := p.mem.MTU(p.limit); got != min(1280, tt.device) {
				t.Errorf("%d in force before anything is known", got)
			}
			took := p.until(t, tt.want, tt.within)
			p.run(time.Minute)
			if got := p.mem.MTU(p.limit); got != tt.want || !p.mem.Measured() || p.mem.Searching || p.mem.Asked != 0 && p.mem.Asked != tt.want {
				t.Errorf("%d in force a minute later: %+v", got, p.mem)
			}
			t.Logf("%d after %v, %d packets", tt.want, took, p.probes)
		})
	}
}

// TestSearchNeverOvershoots: whatever the path and its losses, what is in force
// as measured passes, a search ends, and it ends with the best of the sizes.
func TestSearchNeverOvershoots(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		limit := []int{1280, 1432, 1440, 8940, 8941}[rng.IntN(5)]
		p := newPath(limit, 576+rng.IntN(9000))
		p.rng = rand.New(rand.NewPCG(uint64(i), 5))
		if i%3 == 0 {
			p.loss = 0.02
		}
		for range int(2 * time.Minute / tick) {
			p.step()
			if got := p.mem.MTU(limit); p.mem.Measured() && padded(got, limit) > p.carry {
				t.Fatalf("limit %d, path %d: %d in force", limit, p.carry, got)
			}
		}
		best := 0
		for _, s := range append(slices.Clone(sizes), limit) {
			if s <= limit && padded(s, limit) <= p.carry {
				best = max(best, s)
			}
		}
		if p.loss == 0 && p.mem.MTU(limit) != best {
			t.Fatalf("limit %d, path %d: %d in force, want %d: %+v", limit, p.carry, p.mem.MTU(limit), best, p.mem)
		}
	}
}

func TestBlackHole(t *testing.T) {
	for _, tt := range []struct {
		name         string
		busy         bool
		carry        int
		want, refuge int
		falls, heals time.Duration
	}{
		{"in use", true, 1340, 1328, 1280, 8 * time.Second, 30 * time.Second},
		{"at rest", false, 1340, 1328, 1280, 66 * time.Second, 30 * time.Second},
		{"below the base", true, 1220, 1216, 576, 13 * time.Second, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(1440, 1440)
			p.until(t, 1440, 2*time.Second)
			p.run(100 * time.Second)
			p.carry = tt.carry
			broke := p.now
			for p.mem.MTU(p.limit) > tt.refuge {
				if tt.busy {
					p.sent += 1000
				}
				if p.step(); p.now.Sub(broke) > tt.falls {
					t.Fatalf("%d still in force: %+v", p.mem.MTU(p.limit), p.mem)
				}
			}
			fell := p.now.Sub(broke)
			healed := p.until(t, tt.want, tt.heals)
			if p.mem.Hole.Before(broke) || p.mem.Was != 1440 {
				t.Errorf("the hole is not remembered: %+v", p.mem)
			}
			t.Logf("%d after %v, %d after another %v", tt.refuge, fell, tt.want, healed)

			// When the path is wide again, it is found, and the hole forgotten.
			p.run(time.Minute)
			p.carry = 1440
			p.until(t, 1440, raiseEvery+time.Second)
			if !p.mem.Hole.IsZero() || p.mem.Was != 0 {
				t.Errorf("the hole is still remembered: %+v", p.mem)
			}
		})
	}
}

// TestSilenceIsNoBlackHole: when nothing passes, sizes are not judged.
func TestSilenceIsNoBlackHole(t *testing.T) {
	p := newPath(1440, 1440)
	p.until(t, 1440, 2*time.Second)
	for _, outage := range []time.Duration{time.Second, 1900 * time.Millisecond, 2500 * time.Millisecond, 4 * time.Second, 30 * time.Second, 5 * time.Minute} {
		for phase := range 40 {
			p.sent += 1 << 20
			p.run(3*time.Second + time.Duration(phase)*tick)
			p.down = true
			p.run(outage)
			p.down = false
			p.run(5 * time.Second)
			if p.mem.MTU(p.limit) != 1440 || !p.mem.Hole.IsZero() {
				t.Fatalf("after silence of %v: %+v", outage, p.mem)
			}
		}
	}
}

// TestLossIsNoBlackHole: a lossy path keeps its size nearly always, and gets it
// back within seconds where chance took it.
func TestLossIsNoBlackHole(t *testing.T) {
	p := newPath(1440, 1440)
	p.loss = 0.2
	p.until(t, 1440, 10*time.Second)
	const rounds = int(2 * time.Hour / tick)
	low := 0
	for range rounds {
		p.sent += 1000
		p.step()
		if p.mem.MTU(p.limit) != 1440 {
			low++
		}
	}
	if share := float64(low) / float64(rounds); share > 0.02 {
		t.Errorf("%.3f of the time below what passes", share)
	}
}

func TestOlderPeerKeepsTheBase(t *testing.T) {
	p := newPath(1440, 1440)
	p.deaf = true
	asked := 0
	for range int(10 * time.Minute / tick) {
		p.step()
		if p.mem.Asked != 0 {
			asked++
		}
	}
	if p.mem.MTU(p.limit) != 1280 || p.mem.Measured() || !p.mem.Hole.IsZero() {
		t.Errorf("%+v", p.mem)
	}
	if share := float64(asked) / float64(10*time.Minute/tick); share > 0.1 {
		t.Errorf("asked for %.2f of the time", share)
	}
	p.deaf = false // it was upgraded
	p.until(t, 1440, deafRest+5*time.Second)
}

// TestAnotherPathIsMeasuredAnew: on a new address the base holds until the old
// size has passed there too.
func TestAnotherPathIsMeasuredAnew(t *testing.T) {
	p := newPath(1440, 1440)
	p.until(t, 1440, 2*time.Second)
	p.at, p.carry = netip.MustParseAddrPort("198.51.100.1:4000"), 1340
	p.step()
	if got := p.mem.MTU(p.limit); got != 1280 {
		t.Errorf("%d in force on an unknown path", got)
	}
	p.until(t, 1328, 20*time.Second)
	if !p.mem.Hole.IsZero() {
		t.Error("another path is no black hole")
	}
	p.at, p.carry = netip.MustParseAddrPort("203.0.113.1:51820"), 1440
	p.until(t, 1440, 3*time.Second)
}

func TestCostAtRest(t *testing.T) {
	p := newPath(8941, 1440)
	p.run(time.Minute)
	before := p.probes
	p.run(time.Hour)
	// A check a minute, and six searches of some 5 sizes, each asked 3 or 4 times, some twice.
	if got := p.probes - before; got > 250 {
		t.Errorf("%d packets in an hour of rest", got)
	}
}

func TestLimitMoves(t *testing.T) {
	p := newPath(1440, 8941)
	p.until(t, 1440, 2*time.Second)
	p.run(time.Minute)
	p.limit = 8941
	p.until(t, 8941, 3*time.Second) // a wider device does not wait ten minutes
	p.limit = 1340
	p.step()
	if got := p.mem.MTU(p.limit); got != 1340 {
		t.Errorf("%d in force on a device of 1340", got)
	}
}

func TestSearchWaitsForItsTurn(t *testing.T) {
	m := Memory{}
	now := time.Unix(1000, 0)
	f := Facts{Limit: 1440, Fresh: true}
	for range 100 {
		now = now.Add(tick)
		if m = m.Step(now, f, false); m.Asked != 0 {
			t.Fatal("asked out of turn")
		}
	}
	if m = m.Step(now.Add(tick), f, true); m.Asked != 1280 {
		t.Errorf("asked for %d", m.Asked)
	}
}

func TestDevice(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		configured, underlay int
		backend              tunnel.Backend
		want                 int
	}{
		{"Ethernet", 0, 1500, tunnel.Userspace, 1440},
		{"jumbo", 0, 9001, tunnel.Userspace, 8941},
		{"larger than any", 0, 65535, tunnel.Userspace, 8941},
		{"PPPoE", 0, 1492, tunnel.Userspace, 1432},
		{"tiny", 0, 1280, tunnel.Userspace, 1280},
		{"unknown", 0, 0, tunnel.Userspace, 1280},
		{"one MTU for all", 0, 1500, tunnel.Netstack, 1280},
		{"cut on its way", 0, 9001, tunnel.Kernel, 1440},
		{"configured", 1300, 1500, tunnel.Userspace, 1300},
		{"configured jumbo", 8921, 9001, tunnel.Kernel, 8921},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Device(tt.configured, tt.underlay, tt.backend); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestSizesAreMultiplesOf16(t *testing.T) {
	if !slices.IsSorted(sizes) {
		t.Error("not sorted")
	}
	for _, s := range sizes {
		if s%16 != 0 {
			t.Errorf("%d is filled up to %d", s, (s+15)/16*16)
		}
	}
}
