package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The two hosts of a cable and their addresses.
const (
	cableLeft  = "left"
	cableRight = "right"
)

var (
	leftUnderlay  = netip.MustParseAddr("192.0.2.1")
	rightUnderlay = netip.MustParseAddr("192.0.2.2")
)

// overlayMTU is what every tunnel on the cable gets, so that they compare.
const overlayMTU = 1420

// What one turn of a tunnel is made of.
const (
	pingEvery = 5 * time.Millisecond
	pourFor   = 1500 * time.Millisecond
	pourSize  = 64 - 28 // of the payload: a packet of 64 bytes
	burstSize = 1200
	burstFor  = 1500 * time.Millisecond
	burstGap  = 50 * time.Millisecond
)

// bursts are how many datagrams are sent at once.
var bursts = []int{100, 1000}

// score is what one tunnel made of one turn.
type score struct {
	stream   draw
	packets  float64 // received a second, of 64 bytes
	cpu      float64 // microseconds of both ends for each of them
	idle     []time.Duration
	loaded   []time.Duration
	pingLost int
	lost     []float64 // percent, of bursts
	rss      []int64   // bytes: before and after load, the greater end
}

// measureOverlay compares whole tunnels, ours and others, on two hosts joined
// by a cable: each round every tunnel has its turn, and ratios are taken
// within a round.
func measureOverlay(ctx context.Context, opts Options, m Measure, r *Report) error {
	if opts.Mode != Namespaces {
		err := fmt.Errorf("%w: on %s there is no cable between two hosts", ErrNeedsNamespaces, opts.Mode)
		r.Skipped = err.Error()
		return err
	}
	l, err := newTrack(ctx, opts, newCable)
	if err != nil {
		return err
	}
	return errors.Join(l.overlay(ctx, m, r), l.Close())
}

// newTrack is a lab of a few hosts, without agents or cloud.
func newTrack(ctx context.Context, opts Options, stand func() (ground, error)) (*Lab, error) {
	if opts.Dir == "" {
		opts.Dir = DefaultDir()
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.Binary == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program: %w", err)
		}
		opts.Binary = exe
	}
	dir, err := prepareDir(ctx, opts.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, dir: dir, began: time.Now(), stopped: make(chan struct{})}
	if l.ground, err = stand(); err != nil {
		return nil, fmt.Errorf("make ground: %w", err)
	}
	l.crew = &crew{ground: l.ground, binary: opts.Binary, logs: filepath.Join(dir, logDir)}
	return l, nil
}

func (l *Lab) overlay(ctx context.Context, m Measure, r *Report) error {
	tunnels, absent := l.tunnels(m)
	r.Absent = absent
	for i := range m.Runs {
		r.Runs++
		scores := map[string]score{}
		for j := range tunnels {
			t := tunnels[(i+j)%len(tunnels)]
			s, err := l.turn(ctx, t)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				r.fail(i, fmt.Errorf("%s: %w", t.name, err))
				continue
			}
			scores[t.name] = s
			l.say("run %d: %-22s %5.2f Gbit/s %5.2f s/GB %7.0f packets/s, ping %s idle, %s loaded, lost %v", i+1, t.name,
				s.stream.gigabits, s.stream.cpuPerGB, s.packets, rttAt(s.idle, .5), rttAt(s.loaded, .5), s.lost)
		}
		reportScores(r, tunnels, scores)
	}
	return nil
}

// turn raises one tunnel, measures it, and takes it down.
func (l *Lab) turn(ctx context.Context, t tunnelKind) (s score, err error) {
	a, err := t.raise(ctx)
	defer func() { err = errors.Join(err, l.lower(append(a.daemons, a.others...))) }()
	if err != nil {
		return s, err
	}
	names := a.daemons
	if !a.serves {
		if err := l.startServe(ctx, a.addr); err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, l.crew.end("track", syscall.SIGTERM)) }()
	}
	err = l.until(ctx, processPatience, func(ctx context.Context) error {
		_, err := l.crew.run(ctx, order{host: cableLeft, args: []string{"lab", "draw-stream", bulkURL(a.addr), "0s", "1ms"}})
		return err
	})
	if err != nil {
		return s, fmt.Errorf("wait for the tunnel: %w", err)
	}
	for _, do := range []func() error{
		func() error { return l.weigh(&s, names) },
		func() (err error) { s.idle, _, err = l.ping(ctx, a.addr, 500*time.Millisecond); return err },
		func() error { return l.drawLoaded(ctx, a.addr, names, &s) },
		func() error { return l.pourSmall(ctx, a.addr, names, &s) },
		func() error { return l.pourBursts(ctx, a.addr, &s) },
		func() error { return l.weigh(&s, names) },
	} {
		if err := do(); err != nil {
			return s, err
		}
	}
	return s, nil
}

func bulkURL(a netip.Addr) string {
	return "http://" + netip.AddrPortFrom(a, appPort).String() + "/bulk"
}

// startServe serves the track on an address that may be about to appear.
func (l *Lab) startServe(ctx context.Context, a netip.Addr) error {
	return repeat(ctx, processPatience, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		p, err := l.crew.start(order{name: "track", host: cableRight, args: []string{"lab", "serve-track", netip.AddrPortFrom(a, appPort).String()}})
		if err != nil {
			return false, err
		}
		select {
		case <-p.done:
			return false, fmt.Errorf("serve track: %w", p.err)
		case <-time.After(300 * time.Millisecond):
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})
}

func (l *Lab) lower(daemons []string) error {
	var errs []error
	for _, d := range daemons {
		if p := l.crew.find(d); p != nil && !p.ended() {
			errs = append(errs, l.crew.end(d, syscall.SIGTERM))
		}
	}
	return errors.Join(errs...)
}

// weigh notes the memory of the heavier end.
func (l *Lab) weigh(s *score, daemons []string) error {
	most := int64(0)
	for _, d := range daemons {
		u, err := l.usageOf(d)
		if err != nil {
			return err
		}
		most = max(most, u.rss)
	}
	s.rss = append(s.rss, most)
	return nil
}

// drawLoaded draws a stream to the left, and pings beside it.
func (l *Lab) drawLoaded(ctx context.Context, from netip.Addr, daemons []string, s *score) error {
	before, err := l.cpuOf(daemons)
	if err != nil {
		return err
	}
	var (
		beside sync.WaitGroup
		perr   error
	)
	beside.Go(func() {
		if perr = sleep(ctx, streamWarmUp); perr == nil {
			s.loaded, s.pingLost, perr = l.ping(ctx, from, streamCount-200*time.Millisecond)
		}
	})
	out, err := l.crew.run(ctx, order{host: cableLeft, args: []string{"lab", "draw-stream", bulkURL(from), streamWarmUp.String(), streamCount.String()}})
	beside.Wait()
	if err = errors.Join(err, perr); err != nil {
		return err
	}
	after, err := l.cpuOf(daemons)
	if err != nil {
		return err
	}
	var st Stream
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return fmt.Errorf("read stream of %q: %w", out, err)
	}
	s.stream = drawOf(st, after-before)
	return nil
}

func (l *Lab) ping(ctx context.Context, to netip.Addr, d time.Duration) ([]time.Duration, int, error) {
	var e Echoes
	err := l.runJSON(ctx, &e, "ping", to.String(), pingEvery.String(), d.String())
	return e.RTT, e.Lost, err
}

// runJSON runs a verb on the left and reads what it prints.
func (l *Lab) runJSON(ctx context.Context, into any, args ...string) error {
	return l.runJSONOn(ctx, cableLeft, into, args...)
}

func (l *Lab) runJSONOn(ctx context.Context, host string, into any, args ...string) error {
	out, err := l.crew.run(ctx, order{host: host, args: append([]string{"lab"}, args...)})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("read %q of %s: %w", out, args[0], err)
	}
	return nil
}

// pourSmall counts the smallest packets that arrive.
func (l *Lab) pourSmall(ctx context.Context, to netip.Addr, daemons []string, s *score) error {
	before, err := l.cpuOf(daemons)
	if err != nil {
		return err
	}
	p, got, err := l.pour(ctx, to, pourSize, pourFor, 0)
	if err != nil {
		return err
	}
	after, err := l.cpuOf(daemons)
	if err != nil {
		return err
	}
	s.packets = float64(got.Packets) / p.Took.Seconds()
	s.cpu = float64((after - before).Microseconds()) / float64(max(got.Packets, 1))
	return nil
}

func (l *Lab) pourBursts(ctx context.Context, to netip.Addr, s *score) error {
	for _, n := range bursts {
		p, got, err := l.pour(ctx, to, burstSize, burstFor, n)
		if err != nil {
			return err
		}
		s.lost = append(s.lost, 100*float64(p.Packets-got.Packets)/float64(p.Packets))
	}
	return nil
}

// pour sends from the left, and asks the sink when all had time to arrive.
func (l *Lab) pour(ctx context.Context, to netip.Addr, size int, d time.Duration, burst int) (p Poured, got Sunk, err error) {
	var before, after Sunk
	sunk := "http://" + netip.AddrPortFrom(to, appPort).String() + "/sunk"
	if err := l.runJSON(ctx, &before, "fetch", sunk); err != nil {
		return p, got, err
	}
	if err := l.runJSON(ctx, &p, "pour", netip.AddrPortFrom(to, sinkPort).String(), fmt.Sprint(size), d.String(), fmt.Sprint(burst), burstGap.String()); err != nil {
		return p, got, err
	}
	if err := sleep(ctx, 200*time.Millisecond); err != nil {
		return p, got, err
	}
	if err := l.runJSON(ctx, &after, "fetch", sunk); err != nil {
		return p, got, err
	}
	return p, Sunk{after.Packets - before.Packets, after.Bytes - before.Bytes}, nil
}

// rttAt is a quantile of round trips; 0 of none.
func rttAt(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))]
}

// reportScores adds the figures of one round: each tunnel's own, and the
// ratios of ours on TUN to each other one.
func reportScores(r *Report, tunnels []tunnelKind, scores map[string]score) {
	for _, t := range tunnels {
		s, ok := scores[t.name]
		if !ok {
			continue
		}
		r.addHigher(t.name+": one stream", "Gbit/s", s.stream.gigabits)
		r.add(t.name+": CPU a GB", "s of both ends", s.stream.cpuPerGB)
		r.addHigher(t.name+": 64-byte packets", "1/s", s.packets)
		r.add(t.name+": CPU a packet", "us of both ends", s.cpu)
		r.add(t.name+": ping p50 idle", "ms", ms(rttAt(s.idle, .5)))
		r.add(t.name+": ping p50 under a stream", "ms", ms(rttAt(s.loaded, .5)))
		r.add(t.name+": ping p99 under a stream", "ms", ms(rttAt(s.loaded, .99)))
		for i, n := range bursts {
			r.add(fmt.Sprintf("%s: lost of bursts of %d", t.name, n), "%", s.lost[i])
		}
		r.add(t.name+": memory before load", "MB", float64(s.rss[0])/1e6)
		r.add(t.name+": memory after load", "MB", float64(s.rss[len(s.rss)-1])/1e6)
	}
	ours, ok := scores[oursTUN]
	if !ok {
		return
	}
	for _, t := range tunnels {
		s, ok := scores[t.name]
		if !ok || t.name == oursTUN {
			continue
		}
		to := oursTUN + " to " + t.name + ": "
		r.addHigher(to+"one stream", "ratio", ours.stream.gigabits/s.stream.gigabits)
		r.add(to+"CPU a GB", "ratio", ours.stream.cpuPerGB/s.stream.cpuPerGB)
		r.addHigher(to+"64-byte packets", "ratio", ours.packets/s.packets)
		r.add(to+"ping p50 under a stream", "ratio", ms(rttAt(ours.loaded, .5))/ms(rttAt(s.loaded, .5)))
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// wanted tells whether a tunnel was asked for; nothing asked for means all.
func (m Measure) wanted(name string) bool {
	return len(m.Only) == 0 || slices.ContainsFunc(m.Only, func(o string) bool { return strings.Contains(name, o) })
}
