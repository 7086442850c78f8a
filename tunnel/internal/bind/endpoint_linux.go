package bind

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
)

var _ conn.Endpoint = (*Endpoint)(nil)

// Endpoint is where a peer is, and how it reached us. It does not change,
// except that its source may be found not to hold any more: several peers and
// packets may share one.
type Endpoint struct {
	dst   netip.AddrPort // without zone
	scope uint32         // interface of a link-local dst; 0: none
	src   source

	stale   atomic.Bool   // src must not be used
	checked atomic.Uint32 // the age of routes under which src was last found good
}

// source is the address of ours that a peer sent to, and the interface it came
// in by. The zero value means: let the system choose.
type source struct {
	addr    netip.Addr
	ifindex uint32
}

// parseEndpoint reads what the UAPI writes: ADDR:PORT or [ADDR%ZONE]:PORT.
func parseEndpoint(s string) (*Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("read endpoint: %w", err)
	}
	e := &Endpoint{dst: netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())}
	if zone := a.Addr().Zone(); zone != "" {
		if e.scope, err = scopeOf(zone); err != nil {
			return nil, fmt.Errorf("read endpoint: %w", err)
		}
	}
	return e, nil
}

func scopeOf(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %q: %w", zone, err)
	}
	return uint32(ifi.Index), nil
}

// source is what a datagram to e should carry; zero when that is open.
func (e *Endpoint) source() source {
	if e.stale.Load() {
		return source{}
	}
	return e.src
}

// ClearSrc makes the system choose the source of the next datagram.
func (e *Endpoint) ClearSrc() { e.stale.Store(true) }

// SrcIP is the own address that answers; invalid when the system chooses.
func (e *Endpoint) SrcIP() netip.Addr { return e.source().addr }

// SrcToString is SrcIP in text; "" when the system chooses.
func (e *Endpoint) SrcToString() string {
	if a := e.SrcIP(); a.IsValid() {
		return a.String()
	}
	return ""
}

// DstIP is the peer's address.
func (e *Endpoint) DstIP() netip.Addr { return e.dst.Addr() }

// DstToString is the peer's address and port as the UAPI writes them.
func (e *Endpoint) DstToString() string {
	if e.scope == 0 {
		return e.dst.String()
	}
	zone := strconv.FormatUint(uint64(e.scope), 10)
	return netip.AddrPortFrom(e.dst.Addr().WithZone(zone), e.dst.Port()).String()
}

// DstToBytes is what WireGuard's cookies are bound to.
func (e *Endpoint) DstToBytes() []byte {
	b, _ := e.dst.MarshalBinary() // never fails
	return b
}
