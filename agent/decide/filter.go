package decide

import (
	"net/netip"
	"slices"

	"drawbridge/tunnel"
)

// filter wishes for the packet filter where the device has a system interface,
// and for handed-over ports where it has none.
func (c *scene) filter() {
	set := &c.s.Settings
	if set.Interface == "" {
		c.forwards()
		return
	}
	f := &tunnel.Filter{
		Interface: set.Interface, Mesh: set.Mesh, Self: c.s.Self.Addr,
		Control: slices.Clone(set.Control), Forward: c.gateway(),
		Subnets: c.advertised(),
	}
	f.MTU = c.deviceMTU() // paths that carry less have it at their routes
	slices.Sort(f.Control)
	if f.Self6 = tunnel.Addr6(set.Mesh6, f.Self); f.Self6.IsValid() {
		f.Mesh6 = set.Mesh6
	}
	for _, i := range c.gates {
		f.Gateways = append(f.Gateways, c.mates[i].Addr)
	}
	slices.SortFunc(f.Gateways, netip.Addr.Compare)
	f.Gateways = slices.Compact(f.Gateways)
	for _, s := range c.s.Services {
		f.Services = append(f.Services, s.Port)
	}
	slices.Sort(f.Services)
	f.Services = slices.Compact(f.Services)
	c.p.Filter = f
}

// forwards hands the own services' overlay ports to where they listen.
func (c *scene) forwards() {
	c.p.Forwards = make([]tunnel.Forward, 0, len(c.s.Services))
	for _, s := range c.s.Services {
		to := s.To
		if !to.IsValid() {
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.Port)
		}
		c.p.Forwards = append(c.p.Forwards, tunnel.Forward{Port: s.Port, To: to})
	}
	slices.SortFunc(c.p.Forwards, func(a, b tunnel.Forward) int { return int(a.Port) - int(b.Port) })
}
