package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addRooms makes a second machine room behind a NAT of its own, and a closet in
// the first one behind a second NAT, each with a server.
func (g *namespaces) addRooms() ([]Node, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range []string{"idc2-nat", "closet-nat", farServer.Name, closetServer.Name} {
		h, err := newHost(name)
		if err != nil {
			return nil, fmt.Errorf("make host %s: %w", name, err)
		}
		g.hosts[name] = h
	}
	inet, far, closet := g.hosts["inet"], g.hosts["idc2-nat"], g.hosts["closet-nat"]
	for _, step := range []func() error{
		func() error { return far.bridge("lan", netip.PrefixFrom(farRouter, 24)) },
		func() error {
			return inet.wire("up-idc2", netip.PrefixFrom(farInet, 24), far, "uplink", netip.PrefixFrom(farUplink, 24))
		},
		far.forwarding,
		func() error { return far.route(anywhere, farInet) },
		func() error { return far.masquerade("uplink") },
		func() error { return g.plugIn("idc2-nat", "lan", farServer.Name, "eth0", farServer.Underlay) },
		func() error { return g.hosts[farServer.Name].route(anywhere, farRouter) },

		func() error { return closet.bridge("shelf", netip.PrefixFrom(closetRouter, 24)) },
		func() error { return g.plugIn("idc-nat", "lan", "closet-nat", "uplink", closetUplink) },
		closet.forwarding,
		func() error { return closet.route(anywhere, roomRouter) },
		func() error { return closet.masquerade("uplink") },
		func() error {
			return g.plugIn("closet-nat", "shelf", closetServer.Name, "eth0", closetServer.Underlay)
		},
		func() error { return g.hosts[closetServer.Name].route(anywhere, closetRouter) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return []Node{farServer, closetServer}, nil
}

// renumber gives a link of a host another address in place of its own, and the
// default route again, which goes with the last address.
func (g *namespaces) renumber(name, link string, is netip.Prefix, via netip.Addr) error {
	h := g.hosts[name]
	l, err := h.nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", link, name, err)
	}
	was, err := h.nl.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for i := range was {
		if err := h.nl.AddrDel(l, &was[i]); err != nil {
			return fmt.Errorf("take %s from %s: %w", was[i].IP, name, err)
		}
	}
	if err := h.nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet(is)}); err != nil {
		return fmt.Errorf("give %s to %s: %w", is, name, err)
	}
	return h.route(anywhere, via)
}

// forget makes a router lose what it knows of connections.
func (g *namespaces) forget(router string) error {
	if err := g.hosts[router].nl.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("flush connections of %s: %w", router, err)
	}
	return nil
}

// darken cuts a router's link at the internet, both ways.
func (g *namespaces) darken(link string, cut bool) error {
	percent := 0
	if cut {
		percent = 100
	}
	return g.hosts["inet"].fault(link, percent)
}

// part lets a host hear nothing from an address: what a broken switch does.
func (g *namespaces) part(name string, from netip.Addr, cut bool) error {
	h := g.hosts[name]
	c, err := h.nft()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: labTable})
	chain := c.AddChain(&nftables.Chain{
		Name: "deaf", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	c.FlushChain(chain)
	if cut {
		a := from.As4()
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a[:]},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("part %s from %s: %w", name, from, err)
	}
	return nil
}

// ping begins to ask an overlay address from a host.
func (g *namespaces) ping(from string, to netip.Addr, id uint16) (*pings, error) {
	h := g.hosts[from]
	if h == nil {
		return nil, fmt.Errorf("ping from %s: no such host", from)
	}
	var conn net.PacketConn
	if err := h.do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "ip4:icmp", "0.0.0.0")
		return err
	}); err != nil {
		return nil, fmt.Errorf("ping from %s: %w", from, err)
	}
	return newPings(conn, to, id), nil
}

// serveNames answers on the internet's router for names, and makes every host of
// the lab ask there.
func (g *namespaces) serveNames(dir string, find func(name string) netip.Addr) (stop func(), err error) {
	var conn net.PacketConn
	if err := g.hosts["inet"].do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(publicRouter, 53).String())
		return err
	}); err != nil {
		return nil, fmt.Errorf("serve names: %w", err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Authoritative = true
		for _, one := range q.Question {
			if a := find(one.Name); a.IsValid() && one.Qtype == dns.TypeA {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: one.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: a.AsSlice()})
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	stop = func() { _ = conn.Close(); <-done }
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+publicRouter.String()+"\noptions timeout:1 attempts:2\n"), 0o600); err != nil {
		return stop, fmt.Errorf("write resolv.conf: %w", err)
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return stop, fmt.Errorf("put resolv.conf in place: %w", err)
	}
	return stop, nil
}
