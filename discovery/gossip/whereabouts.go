package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"drawbridge/discovery"
)

// checkWhereabouts holds the bounds of what an announcement says of where its
// node is. A server that fills Seen, Local and Direct, and a gateway that fills
// Seen, Streams and Names, each stay within maxExtension, which older versions
// refuse to read beyond.
func checkWhereabouts(a discovery.Announcement) error {
	for _, l := range []struct {
		name string
		list []netip.AddrPort
		most int
	}{{"seen", a.Seen, maxSeen}, {"local", a.Local, maxLocal}, {"stream", a.Streams, maxStreams}} {
		if len(l.list) > l.most {
			return fmt.Errorf("announce: %d %s addresses, at most %d", len(l.list), l.name, l.most)
		}
		for _, e := range l.list {
			if !dialable(e) {
				return fmt.Errorf("announce: bad %s address %s", l.name, e)
			}
		}
	}
	if !slices.IsSortedFunc(a.Local, netip.AddrPort.Compare) {
		return fmt.Errorf("announce: local addresses are not sorted")
	}
	if len(a.Direct) > maxDirect {
		return fmt.Errorf("announce: %d neighbours, at most %d", len(a.Direct), maxDirect)
	}
	for i, d := range a.Direct {
		if !d.Is4() || i > 0 && !a.Direct[i-1].Less(d) {
			return fmt.Errorf("announce: neighbours must be IPv4 addresses, each once, sorted")
		}
	}
	if err := checkNames(a.Names); err != nil {
		return err
	}
	if n := len(extensionOf(&record{Whole: digest{1}, Announcement: a})); n > maxExtension {
		return fmt.Errorf("announce: %d bytes of addresses and names, at most %d", n, maxExtension)
	}
	return nil
}

// checkNames: a name with a port, and no address in its place.
func checkNames(names []string) error {
	if len(names) > maxNames {
		return fmt.Errorf("announce: %d names, at most %d", len(names), maxNames)
	}
	total := 0
	for _, n := range names {
		total += 1 + len(n)
		host, port, err := net.SplitHostPort(n)
		if err != nil || host == "" || total > 255 || !printable(n) {
			return fmt.Errorf("announce: bad name %q", n)
		}
		if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
			return fmt.Errorf("announce: bad name %q", n)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return fmt.Errorf("announce: %q is an address, not a name", n)
		}
	}
	return nil
}

// dialable: an address that a datagram can be sent to from another host.
func dialable(e netip.AddrPort) bool {
	return e.Addr().IsValid() && !e.Addr().IsUnspecified() && e.Addr().Zone() == "" && e.Port() != 0
}
