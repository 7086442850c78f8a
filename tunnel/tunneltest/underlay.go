package tunneltest

import (
	"net/netip"
	"sync"
	"time"

	"drawbridge/tunnel"
)

// rekey is how often WireGuard renews a session in use (REKEY_AFTER_TIME of
// the WireGuard paper, section 6.1).
const rekey = 120 * time.Second

// Underlay is a network in memory that joins devices. All of it is guarded by
// one mutex; whoever waits for any change waits on one condition.
type Underlay struct {
	mu      sync.Mutex
	cond    *sync.Cond
	devices []*Device
	cuts    map[[2]*Device]bool
	hosts   int
	ports   uint16
}

// NewUnderlay makes an empty network.
func NewUnderlay() *Underlay {
	u := &Underlay{cuts: map[[2]*Device]bool{}, ports: 32768}
	u.cond = sync.NewCond(&u.mu)
	return u
}

// Options of a [Device]. The zero value works.
type Options struct {
	// Host is the device's address in the underlay; zero gives it one of its
	// own. Two devices on one host compete for UDP ports.
	Host netip.Addr
	// Forward relays packets between members (a gateway does).
	Forward bool
}

// Device adds a device to the network. It does nothing until its first Apply.
func (u *Underlay) Device(o Options) *Device {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !o.Host.IsValid() {
		u.hosts++
		// The block for tests of network devices (RFC 2544).
		o.Host = netip.AddrFrom4([4]byte{198, 18, byte(u.hosts >> 8), byte(u.hosts)})
	}
	d := &Device{u: u, opts: o, peers: map[tunnel.Key]*peer{}, listeners: map[netip.AddrPort]*listener{}, packets: map[netip.AddrPort]*packetConn{}, conns: map[*conn]bool{}}
	u.devices = append(u.devices, d)
	return d
}

// Cut stops everything between two devices, in both directions. Connections
// stall as TCP does, packets are lost.
func (u *Underlay) Cut(a, b *Device) { u.setCut(a, b, true) }

// Heal ends a [Underlay.Cut].
func (u *Underlay) Heal(a, b *Device) { u.setCut(a, b, false) }

func (u *Underlay) setCut(a, b *Device, cut bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.renew()
	u.cuts[[2]*Device{a, b}], u.cuts[[2]*Device{b, a}] = cut, cut
	u.settle()
}

// byKey finds the living device with a public key.
func (u *Underlay) byKey(k tunnel.Key) *Device {
	for _, d := range u.devices {
		if d.up() && d.key == k {
			return d
		}
	}
	return nil
}

// session is the device behind a's peer p, after the handshake that a packet
// would cause; nil when none can succeed.
func (u *Underlay) session(a *Device, p *peer) *Device {
	b := u.byKey(p.wish.Key)
	if b == nil || b == a || u.cuts[[2]*Device{a, b}] {
		return nil
	}
	q := b.peers[a.key]
	if q == nil || p.endpoint != b.listen && q.endpoint != a.listen {
		return nil
	}
	p.endpoint, q.endpoint = b.listen, a.listen
	if p.handshake.IsZero() || q.handshake.IsZero() {
		p.handshake = time.Now()
		q.handshake = p.handshake
		// The sizes of initiation and response (WireGuard paper, section 5.4).
		p.tx, q.rx = p.tx+148, q.rx+148
		q.tx, p.rx = q.tx+92, p.rx+92
	}
	p.greet, q.greet = false, false
	return b
}

// hop is one link of a path: the sender's and the receiver's view of it.
type hop struct{ out, in *peer }

// path follows a packet from a device's own address to dst, through relays,
// and returns the device that gets it; nil when it is lost.
func (u *Underlay) path(from *Device, dst netip.Addr) (*Device, []hop) {
	var hops []hop
	if !from.up() || !from.own(dst).IsValid() {
		return nil, nil
	}
	for at := from; at.up() && len(hops) < 8; {
		if at.own(dst) == dst {
			return at, hops
		}
		if at != from && !at.opts.Forward {
			return nil, nil
		}
		p := at.owner(dst)
		if p == nil {
			return nil, nil
		}
		next := u.session(at, p)
		if next == nil {
			return nil, nil
		}
		// Cryptokey routing on receive: the source must belong to the sender.
		if back := next.owner(from.own(dst)); back == nil || back.wish.Key != at.key {
			return nil, nil
		}
		hops = append(hops, hop{p, next.peers[at.key]})
		at = next
	}
	return nil, nil
}

func count(hops []hop, n int) {
	for _, h := range hops {
		h.out.tx += uint64(n + 60) // the headers of IPv4 and WireGuard
		h.in.rx += uint64(n + 60)
	}
}

// settle lets keepalives and forced handshakes happen after a change, and
// wakes everybody who waits.
func (u *Underlay) settle() {
	for _, d := range u.devices {
		if !d.up() {
			continue
		}
		for _, p := range d.peers {
			if p.wish.Keepalive > 0 || p.greet {
				u.session(d, p)
			}
		}
	}
	u.cond.Broadcast()
}

// renew moves the handshake times of living sessions forward, as rekeying
// would have. It runs before every change and before every reading.
func (u *Underlay) renew() {
	now := time.Now()
	for _, d := range u.devices {
		if !d.up() {
			continue
		}
		for _, p := range d.peers {
			age := now.Sub(p.handshake)
			if p.wish.Keepalive == 0 || p.handshake.IsZero() || age < rekey {
				continue
			}
			if b := u.session(d, p); b != nil {
				p.handshake = p.handshake.Add(age.Truncate(rekey))
				b.peers[d.key].handshake = p.handshake
			}
		}
	}
}

// freePort finds a UDP port of a host that no device uses.
func (u *Underlay) freePort(host netip.Addr) netip.AddrPort {
	for {
		u.ports++
		if at := netip.AddrPortFrom(host, u.ports); u.ports >= 32768 && !u.taken(at, nil) {
			return at
		}
	}
}

func (u *Underlay) taken(at netip.AddrPort, except *Device) bool {
	for _, d := range u.devices {
		if d != except && d.up() && d.listen == at {
			return true
		}
	}
	return false
}
