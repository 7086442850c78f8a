package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"sync"
)

// loopback is the ground without privilege: every host is 127.0.0.1, told
// apart by its port, and the relay plays what lies between them.
type loopback struct {
	relay  *relay
	stop   context.CancelFunc
	ended  chan struct{}
	orders chan func()

	mu      sync.Mutex // guards servers
	servers int
}

func newLoopback(ctx context.Context, servers int) (ground, Map, error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	g := &loopback{
		relay:  &relay{line: newLine()},
		stop:   stop,
		ended:  make(chan struct{}),
		orders: make(chan func()),
	}
	m, err := g.plan()
	if err != nil {
		stop()
		return nil, Map{}, err
	}
	for range servers {
		n, err := g.addServer()
		if err != nil {
			stop()
			return nil, Map{}, errors.Join(err, g.relay.closeLegs())
		}
		m.Nodes = append(m.Nodes, n)
	}
	go g.run(ctx)
	return g, m, nil
}

// plan gives every gateway, server and balancer its ports.
func (g *loopback) plan() (Map, error) {
	ports, err := freePorts(3*len(gatewayNames) + len(appNames) + 2)
	if err != nil {
		return Map{}, err
	}
	next := func() netip.AddrPort {
		p := ports[0]
		ports = ports[1:]
		return p
	}
	var m Map
	for i, name := range gatewayNames {
		public, inside := next(), next()
		if err := g.relay.addLeg(public, inside); err != nil {
			return Map{}, errors.Join(err, g.relay.closeLegs())
		}
		m.Nodes = append(m.Nodes, Node{
			Name: name, Site: SiteCloud, Gateway: true,
			Underlay: netip.AddrFrom4([4]byte{172, 31, 1, byte(11 + i)}),
			Endpoint: public, ListenPort: inside.Port(),
			Proxy: next(),
		})
	}
	for i, name := range appNames {
		m.Apps = append(m.Apps, AppHost{
			Name:   name,
			Addr:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 31, 1, byte(21 + i)}), appPort),
			Listen: next(),
		})
	}
	m.AWS, m.Public = next(), next()
	m.Front = []netip.AddrPort{m.Public}
	return m, nil
}

// addServer plans one more server: on this ground a host is only its ports.
func (g *loopback) addServer() (Node, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.servers == maxServers {
		return Node{}, fmt.Errorf("add server: the machine room holds %d", maxServers)
	}
	ports, err := freePorts(2)
	if err != nil {
		return Node{}, err
	}
	n := Node{
		Name: serverName(g.servers), Site: SiteRoom,
		Underlay:   ports[0].Addr(),
		ListenPort: ports[0].Port(), App: ports[1],
	}
	g.servers++
	return n, nil
}

// addStrangers has nothing to make: all of 127.0.0.0/8 is here.
func (g *loopback) addStrangers() (netip.Prefix, error) { return strangersLoopback, nil }

// run carries packets and starts processes until ctx ends. All children are
// started from one thread that lives as long, because the kernel sends them
// the death signal when the thread that started them ends.
func (g *loopback) run(ctx context.Context) {
	defer close(g.ended)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = g.relay.Run(ctx) })
	tasks.Go(func() {
		runtime.LockOSThread()
		for {
			select {
			case order := <-g.orders:
				order()
			case <-ctx.Done():
				return
			}
		}
	})
	tasks.Wait()
}

func (g *loopback) start(_ string, cmd *exec.Cmd) error {
	tieToParent(cmd)
	result := make(chan error, 1)
	select {
	case g.orders <- func() { result <- cmd.Start() }:
		return <-result
	case <-g.ended:
		return fmt.Errorf("start %s: the lab has ended", cmd.Path)
	}
}

func (g *loopback) fault(site string, percent int) error {
	if site != SiteRoom {
		return fmt.Errorf("only the uplink of %s can be cut, not %q", SiteRoom, site)
	}
	g.relay.line.fault(percent)
	return nil
}

func (g *loopback) firewall(bool) error {
	return fmt.Errorf("firewall: %w", ErrNeedsNamespaces)
}

func (g *loopback) close() error {
	g.stop()
	<-g.ended
	return nil
}

func (r *relay) closeLegs() error {
	var errs []error
	for _, l := range r.legs {
		errs = append(errs, l.udp.Close(), l.tcp.Close())
	}
	return errors.Join(errs...)
}

// freePorts finds n ports on 127.0.0.1 that are free for TCP and UDP at once,
// below the range that Linux takes from for outgoing connections (32768 on),
// so that they are still free when an agent binds them.
func freePorts(n int) ([]netip.AddrPort, error) {
	const low, high = 20000, 32000
	var out []netip.AddrPort
	for range 50 * n {
		if len(out) == n {
			return out, nil
		}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(low+rand.IntN(high-low)))
		if !slices.Contains(out, addr) && isFree(addr) {
			out = append(out, addr)
		}
	}
	return nil, fmt.Errorf("find free ports: too many of %d-%d are taken", low, high)
}

func isFree(addr netip.AddrPort) bool {
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return false
	}
	defer func() { _ = tcp.Close() }()
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return false
	}
	_ = udp.Close()
	return true
}
