package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// pathGround is a ground whose network can be changed under the agents.
type pathGround interface {
	ground
	addRooms() ([]Node, error)
	renumber(host, link string, is netip.Prefix, via netip.Addr) error
	forget(router string) error
	darken(link string, cut bool) error
	part(host string, from netip.Addr, cut bool) error
	ping(from string, to netip.Addr, id uint16) (*pings, error)
	serveNames(dir string, find func(name string) netip.Addr) (stop func(), err error)
}

// pathScene is a mesh whose network changes: three servers in a room, one in a
// closet of it behind a second NAT, one in another room.
type pathScene struct {
	*Lab
	g       pathGround
	overlay map[string]netip.Addr
	stopDNS func()
	pinged  uint16
	killed  string // the gateway that died last

	mu    sync.Mutex // guards names
	names map[string]netip.Addr
}

func openPaths(ctx context.Context, opts Options) (*pathScene, error) {
	l, err := newLab(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &pathScene{Lab: l, overlay: map[string]netip.Addr{}, names: map[string]netip.Addr{}, stopDNS: func() {}}
	if err := s.bringUp(ctx); err != nil {
		err = fmt.Errorf("bring up lab: %w", err)
		return nil, errors.Join(err, l.crew.dead(), s.close())
	}
	return s, nil
}

func (s *pathScene) close() error {
	err := s.Close()
	s.stopDNS()
	return err
}

// bringUp makes the mesh of the rooms.
func (s *pathScene) bringUp(ctx context.Context) error {
	var ok bool
	if s.g, ok = s.ground.(pathGround); !ok {
		return ErrNeedsNamespaces
	}
	more, err := s.g.addRooms()
	if err != nil {
		return err
	}
	s.plan.Nodes = append(s.plan.Nodes, more...)
	if s.stopDNS, err = s.g.serveNames(s.dir, s.find); err != nil {
		return err
	}
	if err := s.startHosts(); err != nil {
		return err
	}
	seed, err := s.waitCloud(ctx)
	if err != nil {
		return err
	}
	for i, n := range s.plan.Nodes {
		if n.Name == named {
			s.names[n.Name+".lab.example."] = n.Endpoint.Addr()
			s.plan.Nodes[i].Names = []string{n.Name + ".lab.example:51820"}
			n = s.plan.Nodes[i]
		}
		if err := s.writeConfig(n, seed); err != nil {
			return err
		}
		if i == 0 {
			err = s.found(ctx, n)
		} else {
			_, err = s.admit(ctx, n)
		}
		if err != nil {
			return err
		}
	}
	return s.until(ctx, meshPatience, s.whole)
}

// whole: every agent is ready, and the neighbours of the room are direct.
func (s *pathScene) whole(ctx context.Context) error {
	for _, n := range s.plan.Nodes {
		st, err := s.Agent(n.Name).Status(ctx)
		if err != nil {
			return err
		}
		if s.overlay[n.Name], err = netip.ParseAddr(st.Self.Addr); err != nil {
			return err
		}
		if len(st.Members) != len(s.plan.Nodes) {
			return fmt.Errorf("%s knows %d of %d nodes", n.Name, len(st.Members), len(s.plan.Nodes))
		}
		for _, m := range st.Members {
			if m.Path == "none" || m.State != "alive" {
				return fmt.Errorf("%s to %s: %s, path %s", n.Name, m.Name, m.State, m.Path)
			}
		}
	}
	return s.neighbours(ctx)
}

// neighbours: the two servers that are parted reach each other directly.
func (s *pathScene) neighbours(ctx context.Context) error {
	for _, pair := range [][2]string{{"gpu-1", "gpu-2"}, {"gpu-2", "gpu-1"}} {
		path, err := s.path(ctx, pair[0], pair[1])
		if err != nil {
			return err
		}
		if !strings.HasPrefix(path, "neighbour ") {
			return fmt.Errorf("%s reaches %s %s", pair[0], pair[1], path)
		}
	}
	return nil
}

// path is how a node reaches another, as its agent says.
func (s *pathScene) path(ctx context.Context, from, to string) (string, error) {
	st, err := s.Agent(from).Status(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range st.Members {
		if m.Name == to {
			return m.Path, nil
		}
	}
	return "", fmt.Errorf("%s does not know %s", from, to)
}

// uplink gives the room's NAT a public address.
func (s *pathScene) uplink(addr string) error {
	return s.g.renumber("idc-nat", "uplink", netip.PrefixFrom(netip.MustParseAddr(addr), 24), uplinkInet)
}

// roam gives the first server an address on its LAN.
func (s *pathScene) roam(addr string) error {
	return s.g.renumber("gpu-1", "eth0", netip.PrefixFrom(netip.MustParseAddr(addr), 24), roomRouter)
}

// reboot takes the room's uplink away for a while; routers forget.
func (s *pathScene) reboot(ctx context.Context, routers ...string) error {
	err := s.g.darken(uplinkName, true)
	for _, r := range routers {
		err = errors.Join(err, s.g.forget(r))
	}
	if err == nil {
		err = sleep(ctx, darkFor)
	}
	return errors.Join(err, s.g.darken(uplinkName, false))
}

func (s *pathScene) partNeighbours(cut bool) error {
	one, _ := s.plan.Node("gpu-1")
	two, _ := s.plan.Node("gpu-2")
	return errors.Join(s.g.part(one.Name, two.Underlay, cut), s.g.part(two.Name, one.Underlay, cut))
}

// killRelay ends the gateway that carries what one server sends another.
func (s *pathScene) killRelay(ctx context.Context, from, to string) error {
	path, err := s.path(ctx, from, to)
	if err != nil {
		return err
	}
	name, ok := strings.CutPrefix(path, "via ")
	if !ok {
		return fmt.Errorf("%s reaches %s %s", from, to, path)
	}
	s.killed = name
	return s.Kill(name)
}

// relayed: both servers reach each other through the gateway that died.
func (s *pathScene) relayed(ctx context.Context, one, two string) error {
	for _, pair := range [][2]string{{one, two}, {two, one}} {
		path, err := s.path(ctx, pair[0], pair[1])
		if err != nil {
			return err
		}
		if path != "via "+s.killed {
			return fmt.Errorf("%s reaches %s %s", pair[0], pair[1], path)
		}
	}
	return nil
}

// move gives gateways other public addresses, and says so under their names.
func (s *pathScene) move(to map[string]string) error {
	for name, text := range to {
		a := netip.MustParseAddr(text)
		if err := s.g.renumber(name, "eth0", netip.PrefixFrom(a, 24), publicRouter); err != nil {
			return err
		}
		s.mu.Lock()
		s.names[name+".lab.example."] = a
		s.mu.Unlock()
	}
	return nil
}

// find answers for the gateways' names.
func (s *pathScene) find(name string) netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[strings.ToLower(name)]
}
