package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"drawbridge/tunnel"
)

// The three hosts of a chain: a client in the VPC, a gateway, a server behind
// it.
const (
	chainClient  = "client"
	chainGateway = "gateway"
	chainServer  = "server"
)

var (
	chainVPC     = netip.MustParseAddr("172.31.9.1") // of the gateway; the client is .2
	chainVPC2    = netip.MustParseAddr("172.31.9.2")
	chainDirect  = netip.MustParsePrefix("10.98.0.1/24") // without a tunnel
	chainDirect2 = netip.MustParsePrefix("10.98.0.2/24")
)

const (
	askClients = 32
	askFor     = 2 * time.Second
	proxyPort  = 8088
	// forwarders as the report calls them.
	byRoute   = "route and SNAT"
	byHaproxy = "haproxy, TCP mode"
)

// measureForward compares what a gateway does, routing with its source address
// and our packet filter, with a proxy at the same spot: once in front of a
// plain wire, where the forwarder itself shows, and once in front of our
// tunnel.
func measureForward(ctx context.Context, opts Options, m Measure, r *Report) error {
	if opts.Mode != Namespaces {
		err := fmt.Errorf("%w: on %s nothing is forwarded by the kernel", ErrNeedsNamespaces, opts.Mode)
		r.Skipped = err.Error()
		return err
	}
	l, err := newTrack(ctx, opts, newChain)
	if err != nil {
		return err
	}
	return errors.Join(l.forward(ctx, m, r), l.Close())
}

func (l *Lab) forward(ctx context.Context, m Measure, r *Report) error {
	proxy, err := exec.LookPath("haproxy")
	if err != nil {
		r.Absent = append(r.Absent, "haproxy: not installed")
	}
	for _, spot := range []struct {
		name   string
		tunnel bool
		server netip.Addr
	}{{"plain wire", false, chainDirect2.Addr()}, {"our tunnel", true, bareServer.Addr()}} {
		if err := l.forwardAt(ctx, spot.name, spot.tunnel, spot.server, proxy, m.Runs, r); err != nil {
			return fmt.Errorf("%s: %w", spot.name, err)
		}
	}
	r.Runs = m.Runs
	return nil
}

// forwardAt measures one spot.
func (l *Lab) forwardAt(ctx context.Context, spot string, tunneled bool, server netip.Addr, proxy string, runs int, r *Report) (err error) {
	var up []string
	defer func() { err = errors.Join(err, l.lower(up)) }()
	gw, sv, err := chainPlans(tunneled)
	if err != nil {
		return err
	}
	if tunneled {
		if err := l.startEnd(ctx, chainServer, "chain-server", sv, "overlay-end"); err != nil {
			return err
		}
		up = append(up, "chain-server")
	}
	if err := l.startEnd(ctx, chainGateway, "chain-gateway", gw, "overlay-end"); err != nil {
		return err
	}
	up = append(up, "chain-gateway")
	if _, err := l.crew.start(order{name: "answers", host: chainServer, args: []string{"lab", "serve-answers", netip.AddrPortFrom(server, appPort).String()}}); err != nil {
		return err
	}
	up = append(up, "answers")
	targets := map[string]netip.AddrPort{byRoute: netip.AddrPortFrom(server, appPort)}
	names := []string{byRoute}
	if proxy != "" {
		if err := l.startHaproxy(proxy, server); err != nil {
			return err
		}
		up = append(up, "haproxy")
		targets[byHaproxy] = netip.AddrPortFrom(chainVPC, proxyPort)
		names = append(names, byHaproxy)
	}
	for _, at := range targets {
		err := l.until(ctx, processPatience, func(ctx context.Context) error {
			a, err := l.ask(ctx, at, 1, time.Millisecond, false)
			if err == nil && a.Failed > 0 {
				err = errors.New("no answer")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("wait for answers at %s: %w", at, err)
		}
	}
	for i := range runs {
		kept, fresh := map[string]Asked{}, map[string]Asked{}
		for j := range names {
			name := names[(i+j)%len(names)]
			if kept[name], err = l.ask(ctx, targets[name], askClients, askFor, false); err != nil {
				return err
			}
			if fresh[name], err = l.ask(ctx, targets[name], askClients, askFor, true); err != nil {
				return err
			}
			l.say("run %d: %s, %-18s %6.0f requests/s, p99 %s, %6.0f connections/s", i+1, spot, name, kept[name].rate(), kept[name].P99, fresh[name].rate())
			if n := kept[name].Failed + fresh[name].Failed; n > 0 {
				r.fail(i, fmt.Errorf("%s, %s: %d questions failed", spot, name, n))
			}
		}
		reportForward(r, spot, names, kept, fresh)
	}
	return nil
}

func reportForward(r *Report, spot string, names []string, kept, fresh map[string]Asked) {
	for _, name := range names {
		what := spot + ", " + name + ": "
		r.addHigher(what+"requests", "1/s", kept[name].rate())
		r.add(what+"p50", "us", float64(kept[name].P50.Microseconds()))
		r.add(what+"p99", "us", float64(kept[name].P99.Microseconds()))
		r.addHigher(what+"new connections", "1/s", fresh[name].rate())
	}
	if len(names) < 2 {
		return
	}
	x, y := kept[byRoute], kept[byHaproxy]
	to := spot + ", route to haproxy: "
	r.addHigher(to+"requests", "ratio", x.rate()/y.rate())
	r.add(to+"p99", "ratio", x.P99.Seconds()/y.P99.Seconds())
	r.addHigher(to+"new connections", "ratio", fresh[byRoute].rate()/fresh[byHaproxy].rate())
}

func (l *Lab) ask(ctx context.Context, at netip.AddrPort, clients int, d time.Duration, fresh bool) (a Asked, err error) {
	err = l.runJSONOn(ctx, chainClient, &a, "ask", at.String(), fmt.Sprint(clients), d.String(), fmt.Sprint(fresh))
	return a, err
}

// chainPlans are the ends of the chain's tunnel, or a gateway that only
// forwards onto its wire.
func chainPlans(tunneled bool) (gateway, server endPlan, err error) {
	keys, err := endKeys()
	if err != nil {
		return gateway, server, err
	}
	gateway = endPlan{Backend: tunnel.Userspace, MTU: overlayMTU, Addr: bareGateway, Port: barePort, Private: keys[0], Peer: keys[1], PeerAddr: bareServer.Addr(), Forward: true}
	server = endPlan{
		Backend: tunnel.Userspace, MTU: overlayMTU, Addr: bareServer, Private: keys[1], Peer: keys[0], PeerAddr: bareGateway.Addr(),
		Endpoint: netip.AddrPortFrom(leftUnderlay, barePort),
	}
	if !tunneled {
		gateway = endPlan{Addr: chainDirect, MTU: 1500, Forward: true, Onto: "eth1"}
	}
	return gateway, server, nil
}

// startHaproxy starts it on the gateway, towards the server.
func (l *Lab) startHaproxy(program string, server netip.Addr) error {
	file := filepath.Join(l.dir, "haproxy.cfg")
	text := fmt.Sprintf(`global
	maxconn 4000
defaults
	mode tcp
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen lab
	bind %s
	server s %s
`, netip.AddrPortFrom(chainVPC, proxyPort), netip.AddrPortFrom(server, appPort))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write haproxy.cfg: %w", err)
	}
	p, err := l.crew.start(order{name: "haproxy", host: chainGateway, program: program, args: []string{"-db", "-f", file}})
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		return fmt.Errorf("haproxy has ended: %w\n%s", p.err, logTail(p.log))
	case <-time.After(300 * time.Millisecond):
	}
	return nil
}
