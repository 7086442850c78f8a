package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The second machine room, and the closet in the first.
var (
	farInet      = netip.MustParseAddr("198.51.101.1")
	farUplink    = netip.MustParseAddr("198.51.101.2")
	farRouter    = netip.MustParseAddr("192.168.60.1")
	closetUplink = netip.MustParseAddr("192.168.50.200")
	closetRouter = netip.MustParseAddr("192.168.70.1")

	farServer = Node{
		Name: "far-1", Site: "idc2", Underlay: netip.MustParseAddr("192.168.60.11"), ListenPort: wireguardPort,
		App: netip.AddrPortFrom(netip.IPv4Unspecified(), appPort),
	}
	closetServer = Node{
		Name: "box-1", Site: "closet", Underlay: netip.MustParseAddr("192.168.70.11"), ListenPort: wireguardPort,
		App: netip.AddrPortFrom(netip.IPv4Unspecified(), appPort),
	}
)

// change is one thing that happens to the network.
type change struct {
	name     string
	from, to string // who pings whom through the overlay
	do       func(context.Context, *pathScene) error
	undo     func(context.Context, *pathScene) error // nil: nothing is to be undone
	settled  func(context.Context, *pathScene) error // nil: when pings are answered; else what ends the change
	goal     time.Duration                           // until pings are answered, or it is settled; longer is a failure
}

const darkFor = 5 * time.Second

// named is the gateway that has a name; the other one has an address only.
const named = "gw-a"

// fewLost are as many pings as may be under way when a path changes without a
// fault, on a machine that has other things to do.
const fewLost = 20

var pathChanges = []change{
	{
		name: "NAT gets another public address", from: "gw-a", to: "gpu-1", goal: 8 * time.Second,
		do:   func(_ context.Context, s *pathScene) error { return s.uplink("198.51.100.3") },
		undo: func(_ context.Context, s *pathScene) error { return s.uplink(uplinkRoom.String()) },
	},
	{
		name: "NAT reboots (5 s dark, mappings lost)", from: "gw-a", to: "gpu-1", goal: darkFor + 5*time.Second,
		do: func(ctx context.Context, s *pathScene) error { return s.reboot(ctx, "idc-nat") },
	},
	{
		name: "both of two NATs reboot (5 s dark)", from: "gw-a", to: "box-1", goal: darkFor + 5*time.Second,
		do: func(ctx context.Context, s *pathScene) error { return s.reboot(ctx, "idc-nat", "closet-nat") },
	},
	{
		name: "server roams to another address", from: "gw-a", to: "gpu-1", goal: 8 * time.Second,
		do:   func(_ context.Context, s *pathScene) error { return s.roam("192.168.50.111") },
		undo: func(_ context.Context, s *pathScene) error { return s.roam("192.168.50.11") },
	},
	{
		name: "NAT of one of two rooms gets another public address", from: "gpu-1", to: "far-1", goal: 8 * time.Second,
		do: func(_ context.Context, s *pathScene) error {
			return s.g.renumber("idc2-nat", "uplink", netip.MustParsePrefix("198.51.101.3/24"), farInet)
		},
		undo: func(_ context.Context, s *pathScene) error {
			return s.g.renumber("idc2-nat", "uplink", netip.PrefixFrom(farUplink, 24), farInet)
		},
	},
	{
		name: "relay gateway dies", from: "gpu-1", to: "far-1", goal: 8 * time.Second,
		do: func(ctx context.Context, s *pathScene) error { return s.killRelay(ctx, "gpu-1", "far-1") },
	},
	{
		name: "relay gateway is back", from: "gpu-1", to: "far-1", goal: 40 * time.Second,
		do:      func(_ context.Context, s *pathScene) error { return s.Start(s.killed) },
		settled: func(ctx context.Context, s *pathScene) error { return s.relayed(ctx, "gpu-1", "far-1") },
	},
	{
		name: "LAN path of two neighbours is cut", from: "gpu-1", to: "gpu-2", goal: 8 * time.Second,
		do: func(_ context.Context, s *pathScene) error { return s.partNeighbours(true) },
	},
	{
		name: "LAN path is back, relay to direct", from: "gpu-1", to: "gpu-2", goal: 20 * time.Second,
		do:      func(_ context.Context, s *pathScene) error { return s.partNeighbours(false) },
		settled: func(ctx context.Context, s *pathScene) error { return s.neighbours(ctx) },
	},
	{
		// The other gateway sees where it is now, and gossip tells the servers.
		name: "gateway without a name gets another public address", from: "gpu-1", to: "gw-b", goal: 15 * time.Second,
		do:   func(_ context.Context, s *pathScene) error { return s.move(map[string]string{"gw-b": "203.0.113.32"}) },
		undo: func(_ context.Context, s *pathScene) error { return s.move(map[string]string{"gw-b": "203.0.113.12"}) },
	},
	{
		// Nobody is left to tell: the name of one leads to it, and it to the other.
		name: "both gateways get other public addresses", from: "gpu-1", to: "gw-b", goal: 30 * time.Second,
		do: func(_ context.Context, s *pathScene) error {
			return s.move(map[string]string{"gw-a": "203.0.113.31", "gw-b": "203.0.113.32"})
		},
		undo: func(_ context.Context, s *pathScene) error {
			return s.move(map[string]string{"gw-a": "203.0.113.11", "gw-b": "203.0.113.12"})
		},
	},
}

// measurePaths changes the network of one mesh, again and again, and measures
// by pings how long each change is felt.
func measurePaths(ctx context.Context, opts Options, m Measure, r *Report) error {
	if opts.Mode != Namespaces {
		r.Skipped = fmt.Sprintf("on %s there is no network to change", opts.Mode)
		return fmt.Errorf("%w: %s", ErrNeedsNamespaces, r.Skipped)
	}
	s, err := openPaths(ctx, opts)
	if err != nil {
		return err
	}
	for i := range m.Runs {
		r.Runs++
		for _, c := range pathChanges {
			if !m.wanted(c.name) {
				continue
			}
			if err := s.tell(ctx, c, r); err != nil {
				if ctx.Err() != nil {
					return errors.Join(ctx.Err(), s.close())
				}
				r.fail(i, fmt.Errorf("%s: %w", c.name, err))
			}
		}
	}
	return s.close()
}

// tell lets one change happen and be undone, and measures both.
func (s *pathScene) tell(ctx context.Context, c change, r *Report) error {
	s.pinged++
	p, err := s.g.ping(c.from, s.overlay[c.to], s.pinged)
	if err != nil {
		return err
	}
	defer p.close()
	if err := s.quiet(ctx, p); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	o, err := s.feel(ctx, p, c.do, c.settled)
	if err != nil {
		return err
	}
	r.add(c.name+": after", "s", o.healed.Seconds())
	r.add(c.name+": pings lost", "of 100 a second", float64(o.lost))
	s.say("%s: after %.2f s, %d pings lost", c.name, o.healed.Seconds(), o.lost)
	if o.healed > c.goal {
		err = fmt.Errorf("whole again after %.2f s, want at most %s", o.healed.Seconds(), c.goal)
	}
	if c.settled != nil && o.lost > fewLost {
		err = fmt.Errorf("%d pings lost at a change without a fault, want at most %d", o.lost, fewLost)
	}
	if c.undo == nil {
		return err
	}
	back, undoErr := s.feel(ctx, p, c.undo, nil)
	if undoErr != nil {
		return errors.Join(err, fmt.Errorf("undone: %w", undoErr))
	}
	s.say("%s, undone: whole again after %.2f s, %d pings lost", c.name, back.healed.Seconds(), back.lost)
	return errors.Join(err, s.until(ctx, time.Minute, s.whole))
}

// quiet waits for two seconds without a loss.
func (s *pathScene) quiet(ctx context.Context, p *pings) error {
	return s.until(ctx, 30*time.Second, func(ctx context.Context) error {
		from := time.Now()
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		if o, whole := p.since(from); !whole || o.lost > 0 {
			return fmt.Errorf("pings are lost: %d of 200", o.lost)
		}
		return nil
	})
}

// feel does something and watches pings until it is over: answered for three
// seconds, and settled.
func (s *pathScene) feel(ctx context.Context, p *pings, do, settled func(context.Context, *pathScene) error) (outage, error) {
	began := time.Now()
	if err := do(ctx, s); err != nil {
		return outage{}, err
	}
	const calm = 3 * time.Second
	var took time.Duration
	if settled != nil {
		if err := s.until(ctx, 2*time.Minute, func(ctx context.Context) error { return settled(ctx, s) }); err != nil {
			return outage{}, err
		}
		took = time.Since(began)
	}
	var o outage
	err := s.until(ctx, 2*time.Minute, func(context.Context) error {
		var whole bool
		o, whole = p.since(began)
		if quiet := time.Since(began) - max(o.healed, took); !whole || quiet < calm || time.Since(began) < 2*calm {
			return fmt.Errorf("pings are lost: %d so far", o.lost)
		}
		return nil
	})
	if took > 0 {
		o.healed = took
	}
	return o, err
}

// PathChanges are the names of what measure paths does, in its order.
func PathChanges() []string {
	var names []string
	for _, c := range pathChanges {
		names = append(names, c.name)
	}
	return slices.Clip(names)
}
