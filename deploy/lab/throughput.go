package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"drawbridge/agent/api"
)

// ErrNeedsNamespaces says that a measurement has no meaning on loopback.
var ErrNeedsNamespaces = errors.New("needs the ground of namespaces")

// One draw of a stream.
const (
	streamWarmUp = 500 * time.Millisecond
	streamCount  = 3 * time.Second
)

// carrier is one way from the gateway to the server.
type carrier struct {
	name string // in the report
	mtu  int
	bare bool
}

// draw is what one carrier made of one stream.
type draw struct {
	gigabits float64 // a second
	cpuPerGB float64 // seconds of both daemons for 10^9 bytes
}

// measureThroughput lets a gateway draw one TCP stream from a server, in turns
// through the two agents and through bare wireguard-go on the same hosts and
// the same underlay path. The agents stay up in the turns of bare WireGuard,
// so what they use at rest is taken from it, not from them.
func measureThroughput(ctx context.Context, opts Options, m Measure, r *Report) error {
	if opts.Mode != Namespaces {
		err := fmt.Errorf("%w: on %s a relay of the lab copies every packet and agents have no TUN device, so it would measure the lab", ErrNeedsNamespaces, opts.Mode)
		r.Skipped = err.Error()
		return err
	}
	s, err := open(ctx, opts)
	if err != nil {
		return err
	}
	return errors.Join(s.throughput(ctx, m.Runs, r), s.close())
}

func (s *scene) throughput(ctx context.Context, runs int, r *Report) error {
	if err := s.crew.end("user", syscall.SIGTERM); err != nil {
		return err
	}
	p, err := s.findPair(ctx)
	if err != nil {
		return err
	}
	carriers := carriersAt(p.mtu)
	for i := range runs {
		r.Runs++
		draws := map[carrier]draw{}
		for _, c := range rotate(carriers, i) {
			d, err := s.draw(ctx, p, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				r.fail(i, fmt.Errorf("%s: %w", c.name, err))
				continue
			}
			draws[c] = d
			s.say("run %d: %s: %.2f Gbit/s, %.2f s of CPU a GB", i+1, c.name, d.gigabits, d.cpuPerGB)
		}
		reportDraws(r, carriers, draws)
	}
	return nil
}

// carriersAt are the agents, at the MTU they have, and bare WireGuard at the
// same and at its own customary one.
func carriersAt(mtu int) []carrier {
	all := []carrier{{name: fmt.Sprintf("agents, MTU %d", mtu), mtu: mtu}}
	for _, bare := range []int{mtu, bareMTU} {
		c := carrier{name: fmt.Sprintf("bare wireguard-go, MTU %d", bare), mtu: bare, bare: true}
		if c != all[len(all)-1] {
			all = append(all, c)
		}
	}
	return all
}

// rotate begins with the i-th, so that nobody is always the first.
func rotate(all []carrier, i int) []carrier {
	i %= len(all)
	return append(append([]carrier{}, all[i:]...), all[:i]...)
}

// reportDraws adds the figures of one run, with ratios of agents to bare
// within the run.
func reportDraws(r *Report, carriers []carrier, draws map[carrier]draw) {
	for _, c := range carriers {
		if d, ok := draws[c]; ok {
			r.addHigher(c.name, "Gbit/s", d.gigabits)
		}
	}
	agents, ok := draws[carriers[0]]
	for _, c := range carriers[1:] {
		if d, have := draws[c]; ok && have && d.gigabits > 0 {
			r.addHigher("agents to "+c.name, "ratio", agents.gigabits/d.gigabits)
		}
	}
	for _, c := range carriers {
		if d, ok := draws[c]; ok {
			r.add("CPU of both ends, "+c.name, "s a GB", d.cpuPerGB)
		}
	}
}

// pair is a gateway and a server with the agents' tunnel between them.
type pair struct {
	gateway, server Node
	overlay         netip.Addr // of the server
	mtu             int        // of the path between them
}

// findPair takes the first gateway and the first server, and insists on a
// direct path between them: a relayed one would be another measurement.
func (s *scene) findPair(ctx context.Context) (pair, error) {
	plan := s.Map()
	p := pair{gateway: plan.Nodes[0]}
	p.server = plan.Nodes[len(plan.Gateways())]
	err := s.until(ctx, processPatience, func(ctx context.Context) error {
		st, err := s.Agent(p.gateway.Name).Status(ctx)
		if err == nil {
			err = p.read(st)
		}
		return err
	})
	return p, err
}

// read takes what the gateway's agent knows of the pair.
func (p *pair) read(st api.Status) error {
	for _, m := range st.Members {
		if m.Name != p.server.Name {
			continue
		}
		if !strings.HasPrefix(m.Path, "direct ") {
			return fmt.Errorf("path from %s to %s is %q, want a direct one", p.gateway.Name, p.server.Name, m.Path)
		}
		addr, err := netip.ParseAddr(m.Addr)
		if err != nil {
			return fmt.Errorf("overlay address of %s: %w", p.server.Name, err)
		}
		if m.MTUState != "measured" {
			return fmt.Errorf("path from %s to %s carries %d bytes, %s", p.gateway.Name, p.server.Name, m.MTU, m.MTUState)
		}
		p.overlay, p.mtu = addr, m.MTU
		return nil
	}
	return fmt.Errorf("%s does not know %s", p.gateway.Name, p.server.Name)
}

// draw measures one carrier once.
func (s *scene) draw(ctx context.Context, p pair, c carrier) (draw, error) {
	if !c.bare {
		return s.drawFrom(ctx, p, p.overlay, agentName(p.gateway.Name), agentName(p.server.Name))
	}
	down, err := s.raiseBare(ctx, p, c.mtu)
	if err != nil {
		return draw{}, errors.Join(err, down())
	}
	d, err := s.drawFrom(ctx, p, bareServer.Addr(), bareName(p.gateway.Name), bareName(p.server.Name))
	return d, errors.Join(err, down())
}

func (s *scene) drawFrom(ctx context.Context, p pair, from netip.Addr, daemons ...string) (draw, error) {
	before, err := s.cpuOf(daemons)
	if err != nil {
		return draw{}, err
	}
	out, err := s.crew.run(ctx, order{host: p.gateway.Name, args: []string{
		"lab", "draw-stream", "http://" + netip.AddrPortFrom(from, appPort).String() + "/bulk", streamWarmUp.String(), streamCount.String(),
	}})
	if err != nil {
		return draw{}, err
	}
	cpu, err := s.cpuOf(daemons)
	if err != nil {
		return draw{}, err
	}
	var st Stream
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return draw{}, fmt.Errorf("read stream of %q: %w", out, err)
	}
	return drawOf(st, cpu-before), nil
}

func drawOf(st Stream, cpu time.Duration) draw {
	d := draw{gigabits: st.gigabits()}
	if st.Total > 0 {
		d.cpuPerGB = cpu.Seconds() / (float64(st.Total) / 1e9)
	}
	return d
}

func (l *Lab) cpuOf(daemons []string) (time.Duration, error) {
	var sum time.Duration
	for _, name := range daemons {
		u, err := l.usageOf(name)
		if err != nil {
			return 0, err
		}
		sum += u.cpu
	}
	return sum, nil
}

func bareName(node string) string { return "bare-" + node }

// raiseBare puts a bare tunnel between the pair and waits until the server's
// application answers through it. down takes it away; it is never nil.
func (s *scene) raiseBare(ctx context.Context, p pair, mtu int) (down func() error, err error) {
	var up []string
	down = func() error {
		var errs []error
		for _, name := range up {
			errs = append(errs, s.crew.end(name, syscall.SIGTERM))
		}
		return errors.Join(errs...)
	}
	gw, server, err := barePlans(mtu, p.gateway.Endpoint.Addr())
	if err != nil {
		return down, err
	}
	// The gateway first: a greeting that nobody hears is repeated only after
	// five seconds.
	for _, end := range []struct {
		host string
		plan barePlan
	}{{p.gateway.Name, gw}, {p.server.Name, server}} {
		if err := s.startBare(ctx, end.host, end.plan); err != nil {
			return down, err
		}
		up = append(up, bareName(end.host))
	}
	url := "http://" + netip.AddrPortFrom(bareServer.Addr(), appPort).String() + "/bulk"
	err = s.until(ctx, processPatience, func(ctx context.Context) error {
		_, err := s.crew.run(ctx, order{host: p.gateway.Name, args: []string{"lab", "draw-stream", url, "0s", "1ms"}})
		return err
	})
	if err != nil {
		return down, fmt.Errorf("wait for bare wireguard: %w", err)
	}
	return down, nil
}

// startBare starts one end and waits until it is up.
func (l *Lab) startBare(ctx context.Context, host string, p barePlan) error {
	return l.startEnd(ctx, host, bareName(host), p, "bare-wireguard")
}

// startEnd starts one end of a tunnel with its plan in a file, and waits for
// the line that says it is up.
func (l *Lab) startEnd(ctx context.Context, host, name string, plan any, verb string) error {
	b, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("write plan of %s: %w", name, err)
	}
	file := filepath.Join(l.dir, name+".json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("write plan of %s: %w", name, err)
	}
	up := newSignalLine()
	pr, err := l.crew.start(order{name: name, host: host, args: []string{"lab", verb, file}, stdout: up})
	if err != nil {
		return err
	}
	select {
	case <-up.seen:
		return nil
	case <-pr.done:
		return fmt.Errorf("%s has ended: %w\n%s", name, pr.err, logTail(pr.log))
	case <-time.After(processPatience):
		err = fmt.Errorf("%s is not up after %s\n%s", name, processPatience, logTail(pr.log))
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, l.crew.kill(name))
}

// signalLine is a process's standard output of which only the first line
// matters.
type signalLine struct {
	once sync.Once
	seen chan struct{}
	text bytes.Buffer // until seen is closed
}

func newSignalLine() *signalLine { return &signalLine{seen: make(chan struct{})} }

func (l *signalLine) Write(p []byte) (int, error) {
	select {
	case <-l.seen:
		return len(p), nil
	default:
	}
	l.text.Write(p)
	if bytes.IndexByte(p, '\n') >= 0 {
		l.once.Do(func() { close(l.seen) })
	}
	return len(p), nil
}

// line is the first line, once it was seen.
func (l *signalLine) line() []byte {
	first, _, _ := bytes.Cut(l.text.Bytes(), []byte("\n"))
	return first
}
