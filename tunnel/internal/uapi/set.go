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
	var b strings.Builder
	writeDevice(&b, last, next)
	before := map[tunnel.Key]*tunnel.Peer{}
	if last != nil {
		for i := range last.Peers {
			before[last.Peers[i].Key] = &last.Peers[i]
		}
	}
	kept := make(map[tunnel.Key]bool, len(next.Peers))
	for i := range next.Peers {
		n := &next.Peers[i]
		o := before[n.Key]
		kept[n.Key] = true
		switch {
		case o == nil:
			writeNew(&b, n, n.Endpoint)
		case o.Epoch != n.Epoch:
			fmt.Fprintf(&b, "public_key=%s\nremove=true\n", n.Key.Hex())
			writeNew(&b, n, endpointAgain(o, n, learned))
		default:
			writeChanged(&b, o, n)
		}
	}
	for i := range next.Peers {
		if o := before[next.Peers[i].Key]; o != nil && o.Epoch == next.Peers[i].Epoch {
			writeTaken(&b, o, &next.Peers[i])
		}
	}
	if last != nil {
		for i := range last.Peers {
			if k := last.Peers[i].Key; !kept[k] {
				fmt.Fprintf(&b, "public_key=%s\nremove=true\n", k.Hex())
			}
		}
	}
	return b.String()
}

// Again are the keys whose epoch changed between two wishes: peers that Set
// removes and adds again, and that owe a new handshake.
func Again(last, next *tunnel.Config) []tunnel.Key {
	if last == nil {
		return nil
	}
	epochs := make(map[tunnel.Key]uint64, len(last.Peers))
	for _, p := range last.Peers {
		epochs[p.Key] = p.Epoch
	}
	var keys []tunnel.Key
	for _, p := range next.Peers {
		if e, ok := epochs[p.Key]; ok && e != p.Epoch {
			keys = append(keys, p.Key)
		}
	}
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
