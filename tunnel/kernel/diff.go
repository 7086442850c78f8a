package kernel

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"drawbridge/tunnel"
)

// sink is the key of a peer that exists for a moment only, see diff. It is a
// hash, so nobody has its private key.
var sink = wgtypes.Key(sha256.Sum256([]byte("drawbridge: a peer that nobody is")))

// diff is what turns the device, on which last was applied, into next: steps
// to be taken in this order, none when nothing is to be done. A nil last
// describes a device in an unknown state, of which nothing is kept. Both wishes
// must be normalized.
//
// What the device has decides, except where it knows better or does not know:
// an endpoint is set when the wish for it changes, so that a roaming peer keeps
// the one that was learned, and so is an epoch.
//
// The order matters:
//
//   - the UDP port first and alone, because it is the only thing that fails on
//     a sound wish (another process may hold the port), and then nothing has
//     changed;
//   - then what comes to peers: adding a prefix to a peer takes it from its
//     former owner in one step, so a moving prefix always has an owner. A
//     prefix that nobody gets goes to the sink in the same way: the kernel can
//     take a single prefix away only since Linux 6.16, and replacing a peer's
//     list would leave all of it without an owner for an instant;
//   - then the sink goes, with the peers that are gone, with what they still
//     own, and with those of a new epoch;
//   - those of a new epoch come again, with the endpoint that was learned.
//     Turning keepalive on sends one, and that starts the handshake;
//   - so keepalive goes off again where nobody wishes it.
//
// No step names a peer twice, so it can be cut, see messages.
func diff(have *wgtypes.Device, last, next *tunnel.Config) []wgtypes.Config {
	var steps []wgtypes.Config
	if last == nil || last.ListenPort != next.ListenPort {
		port := int(next.ListenPort)
		steps = append(steps, wgtypes.Config{ListenPort: &port})
	}
	d := differ{have: map[tunnel.Key]*wgtypes.Peer{}, last: map[tunnel.Key]*tunnel.Peer{}}
	if last != nil {
		for i := range have.Peers {
			d.have[tunnel.Key(have.Peers[i].PublicKey)] = &have.Peers[i]
		}
		for i := range last.Peers {
			d.last[last.Peers[i].Key] = &last.Peers[i]
		}
	}
	add := wgtypes.Config{ReplacePeers: last == nil}
	if key := reveal(next.PrivateKey); last == nil || have.PrivateKey != key {
		add.PrivateKey = &key
	}
	owned := map[netip.Prefix]bool{}
	for i := range next.Peers {
		for _, a := range next.Peers[i].AllowedIPs {
			owned[a] = true
		}
		d.peer(&next.Peers[i])
	}
	d.rest(next, owned)
	add.Peers = d.add
	for _, s := range []wgtypes.Config{add, {Peers: d.remove}, {Peers: d.again}, {Peers: d.quiet}} {
		if s.ReplacePeers || s.PrivateKey != nil || len(s.Peers) > 0 {
			steps = append(steps, s)
		}
	}
	return steps
}

// reveal is a private key as the kernel takes it.
func reveal(k tunnel.PrivateKey) wgtypes.Key {
	out, _ := wgtypes.ParseKey(k.Base64()) // of the right length, always
	return out
}

type differ struct {
	have                      map[tunnel.Key]*wgtypes.Peer
	last                      map[tunnel.Key]*tunnel.Peer
	add, remove, again, quiet []wgtypes.PeerConfig
}

// peer sorts a wished peer into the steps.
func (d *differ) peer(n *tunnel.Peer) {
	h, o := d.have[n.Key], d.last[n.Key]
	if h == nil {
		d.add = append(d.add, whole(n, n.Endpoint))
		return
	}
	if o != nil && o.Epoch != n.Epoch {
		// What comes to it from others comes with the rest.
		d.remove = append(d.remove, gone(h.PublicKey))
		p := whole(n, endpointAgain(o, n, h))
		if n.Keepalive == 0 {
			p.PersistentKeepaliveInterval = seconds(time.Second)
			d.quiet = append(d.quiet, wgtypes.PeerConfig{PublicKey: p.PublicKey, UpdateOnly: true, PersistentKeepaliveInterval: seconds(0)})
		}
		d.again = append(d.again, p)
		return
	}
	p := wgtypes.PeerConfig{PublicKey: h.PublicKey, UpdateOnly: true, AllowedIPs: nets(missing(n.AllowedIPs, prefixes(h)))}
	if n.Endpoint.IsValid() && (o == nil || o.Endpoint != n.Endpoint) {
		p.Endpoint = udp(n.Endpoint)
	}
	if h.PersistentKeepaliveInterval != n.Keepalive {
		p.PersistentKeepaliveInterval = seconds(n.Keepalive)
	}
	if len(p.AllowedIPs) > 0 || p.Endpoint != nil || p.PersistentKeepaliveInterval != nil {
		d.add = append(d.add, p)
	}
}

// rest takes away what the device has and nobody wishes: peers, and prefixes
// of peers that stay.
func (d *differ) rest(next *tunnel.Config, owned map[netip.Prefix]bool) {
	kept := make(map[tunnel.Key]bool, len(next.Peers))
	var surplus []netip.Prefix
	for i := range next.Peers {
		n := &next.Peers[i]
		kept[n.Key] = true
		if h, o := d.have[n.Key], d.last[n.Key]; h != nil && (o == nil || o.Epoch == n.Epoch) {
			for _, a := range prefixes(h) {
				if !owned[a] {
					surplus = append(surplus, a)
				}
			}
		}
	}
	for k, h := range d.have {
		if !kept[k] && k != tunnel.Key(sink) {
			d.remove = append(d.remove, gone(h.PublicKey))
		}
	}
	if len(surplus) > 0 {
		slices.SortFunc(surplus, tunnel.ComparePrefix)
		d.add = append(d.add, wgtypes.PeerConfig{PublicKey: sink, AllowedIPs: nets(surplus)})
	}
	if len(surplus) > 0 || d.have[tunnel.Key(sink)] != nil {
		d.remove = append(d.remove, gone(sink))
	}
	slices.SortFunc(d.remove, func(a, b wgtypes.PeerConfig) int {
		return tunnel.Key(a.PublicKey).Compare(tunnel.Key(b.PublicKey))
	})
}

// messages are a step in pieces that fit a netlink message. wgctrl would cut
// too, but into as many as there are peers.
func messages(s wgtypes.Config) []wgtypes.Config {
	const peers, addresses = 32, 256 // wgctrl's own bounds
	var out []wgtypes.Config
	rest := s.Peers
	for first := true; first || len(rest) > 0; first = false {
		n, sum := 0, 0
		for n < len(rest) && n < peers && (n == 0 || sum+len(rest[n].AllowedIPs) <= addresses) {
			sum += len(rest[n].AllowedIPs)
			n++
		}
		m := s
		m.Peers, rest = rest[:n:n], rest[n:]
		out = append(out, m)
		s.ListenPort, s.PrivateKey, s.ReplacePeers = nil, nil, false
	}
	return out
}

// whole is a peer as it is added.
func whole(n *tunnel.Peer, endpoint netip.AddrPort) wgtypes.PeerConfig {
	p := wgtypes.PeerConfig{PublicKey: wgtypes.Key(n.Key), AllowedIPs: nets(n.AllowedIPs)}
	if endpoint.IsValid() {
		p.Endpoint = udp(endpoint)
	}
	if n.Keepalive > 0 {
		p.PersistentKeepaliveInterval = seconds(n.Keepalive)
	}
	return p
}

func gone(k wgtypes.Key) wgtypes.PeerConfig {
	return wgtypes.PeerConfig{PublicKey: k, Remove: true, UpdateOnly: true}
}

// endpointAgain is the address for a peer that is removed and added again: the
// wish's if it changed, else where the peer was last heard, else the wish's. A
// stream is never what was learned: the wish says whether there is one.
func endpointAgain(o, n *tunnel.Peer, h *wgtypes.Peer) netip.AddrPort {
	if n.Endpoint.IsValid() && (n.Endpoint != o.Endpoint || tunnel.Streamed(n.Endpoint)) {
		return n.Endpoint
	}
	if a := addrPort(h.Endpoint); a.IsValid() && !tunnel.Streamed(a) {
		return a
	}
	return n.Endpoint
}

// missing are the prefixes of a that b lacks.
func missing(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		if !slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}

func prefixes(h *wgtypes.Peer) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(h.AllowedIPs))
	for _, n := range h.AllowedIPs {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			bits, _ := n.Mask.Size()
			out = append(out, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return out
}

func nets(ps []netip.Prefix) []net.IPNet {
	var out []net.IPNet
	for _, p := range ps {
		out = append(out, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}

func udp(a netip.AddrPort) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

func addrPort(a *net.UDPAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func seconds(d time.Duration) *time.Duration { return &d }
