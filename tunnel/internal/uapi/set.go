package uapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/tunnel"
)

// Set is the body of the set operation that turns a device on which last was
// applied into next; "" means that nothing is to be done. A nil last describes
// a device in an unknown state: everything is replaced and all sessions end.
// Both wishes must be normalized and pass [Check].
//
// learned tells the address a peer was last heard from, zero if unknown; nil
// knows none. It is asked only for peers that are removed and added again
// because their epoch changed: those must not fall back to an older endpoint.
//
// The order of the text matters:
//
//   - listen_port first, because it is the only line that fails on a sound
//     wish (another process may hold the port), and then nothing has changed;
//   - then peers of which something stays or comes: adding a prefix to a peer
//     takes it from its former owner in one step, so a moving prefix always
//     has an owner, and only afterwards are prefixes taken away that nobody
//     else got. Taking away names the peer, so it cannot hit the new owner;
//   - last the peers that are gone; what they still own goes with them.
func Set(last, next *tunnel.Config, learned func(tunnel.Key) netip.AddrPort) string {
	var b, taken, gone strings.Builder
	writeDevice(&b, last, next)
	Changes(last, next, func(o, n *tunnel.Peer) {
		switch {
		case n == nil:
			fmt.Fprintf(&gone, "public_key=%s\nremove=true\n", o.Key.Hex())
		case o == nil:
			writeNew(&b, n, n.Endpoint)
		case o.Epoch != n.Epoch:
			fmt.Fprintf(&b, "public_key=%s\nremove=true\n", n.Key.Hex())
			writeNew(&b, n, endpointAgain(o, n, learned))
		default:
			writeChanged(&b, o, n)
			writeTaken(&taken, o, n)
		}
	})
	return b.String() + taken.String() + gone.String()
}

// Changes calls f for each peer that two normalized wishes do not have alike,
// in the order of keys: o is nil for one that comes, n for one that goes. A
// nil last has no peers.
func Changes(last, next *tunnel.Config, f func(o, n *tunnel.Peer)) {
	var old []tunnel.Peer
	if last != nil {
		old = last.Peers
	}
	fresh := next.Peers
	for len(old) > 0 || len(fresh) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(fresh) == 0:
			order = -1
		default:
			order = old[0].Key.Compare(fresh[0].Key)
		}
		switch {
		case order < 0:
			f(&old[0], nil)
			old = old[1:]
		case order > 0:
			f(nil, &fresh[0])
			fresh = fresh[1:]
		default:
			if !old[0].Equal(fresh[0]) {
				f(&old[0], &fresh[0])
			}
			old, fresh = old[1:], fresh[1:]
		}
	}
}

// Again are the keys whose epoch changed between two wishes: peers that Set
// removes and adds again, and that owe a new handshake.
func Again(last, next *tunnel.Config) (keys []tunnel.Key) {
	if last == nil {
		return nil
	}
	Changes(last, next, func(o, n *tunnel.Peer) {
		if o != nil && n != nil && o.Epoch != n.Epoch {
			keys = append(keys, n.Key)
		}
	})
	return keys
}

func writeDevice(b *strings.Builder, last, next *tunnel.Config) {
	if last == nil || last.ListenPort != next.ListenPort {
		fmt.Fprintf(b, "listen_port=%d\n", next.ListenPort)
	}
	if last == nil || !last.PrivateKey.Equal(next.PrivateKey) {
		fmt.Fprintf(b, "private_key=%s\n", next.PrivateKey.Hex())
	}
	if last == nil {
		b.WriteString("replace_peers=true\n")
	}
}

func writeNew(b *strings.Builder, p *tunnel.Peer, endpoint netip.AddrPort) {
	fmt.Fprintf(b, "public_key=%s\n", p.Key.Hex())
	if endpoint.IsValid() {
		fmt.Fprintf(b, "endpoint=%s\n", unmap(endpoint))
	}
	for _, a := range p.AllowedIPs {
		fmt.Fprintf(b, "allowed_ip=%s\n", a)
	}
	// Last, because turning keepalive on sends one, which opens the session:
	// endpoint and addresses should stand by then.
	if p.Keepalive > 0 {
		fmt.Fprintf(b, "persistent_keepalive_interval=%d\n", p.Keepalive/time.Second)
	}
}

func writeChanged(b *strings.Builder, o, n *tunnel.Peer) {
	var lines []string
	if o.Endpoint != n.Endpoint && n.Endpoint.IsValid() {
		lines = append(lines, "endpoint="+unmap(n.Endpoint).String())
	}
	for _, a := range missing(n.AllowedIPs, o.AllowedIPs) {
		lines = append(lines, "allowed_ip="+a.String())
	}
	if o.Keepalive != n.Keepalive {
		lines = append(lines, fmt.Sprintf("persistent_keepalive_interval=%d", n.Keepalive/time.Second))
	}
	writePeer(b, n.Key, lines)
}

func writeTaken(b *strings.Builder, o, n *tunnel.Peer) {
	var lines []string
	for _, a := range missing(o.AllowedIPs, n.AllowedIPs) {
		lines = append(lines, "allowed_ip=-"+a.String())
	}
	writePeer(b, n.Key, lines)
}

func writePeer(b *strings.Builder, k tunnel.Key, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "public_key=%s\n", k.Hex())
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
}

// endpointAgain is the address for a peer that is removed and added again: the
// wish's if it changed, else where the peer was last heard, else the wish's. A
// stream is never what was learned: the wish says whether there is one.
func endpointAgain(o, n *tunnel.Peer, learned func(tunnel.Key) netip.AddrPort) netip.AddrPort {
	if n.Endpoint.IsValid() && (n.Endpoint != o.Endpoint || tunnel.Streamed(n.Endpoint)) {
		return n.Endpoint
	}
	if learned != nil {
		if a := learned(n.Key); a.IsValid() && !tunnel.Streamed(a) {
			return a
		}
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

// unmap turns ::ffff:192.0.2.1 into 192.0.2.1: wireguard-go chooses the socket
// by the form of the address.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
