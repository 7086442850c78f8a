package tunnel

import (
	"crypto/sha256"
	"net/netip"
)

// Mesh6 is the IPv6 prefix of a mesh, a /64 of unique local addresses. Its
// global ID is not random, as RFC 4193, section 3.2 would have it, but a hash of
// the mesh's name and IPv4 prefix: all nodes know it without being told, and
// two meshes share it only if they share both.
func Mesh6(name string, mesh netip.Prefix) netip.Prefix {
	sum := sha256.Sum256([]byte("drawbridge ula\x00" + name + "\x00" + mesh.Masked().String()))
	var b [16]byte
	b[0] = 0xfd
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// Addr6 is the IPv6 overlay address of the node that has the IPv4 overlay
// address a: the last 32 bits of the prefix carry it. So one certificate binds
// both. Invalid when a is not IPv4 or mesh6 is no /64.
func Addr6(mesh6 netip.Prefix, a netip.Addr) netip.Addr {
	if !a.Is4() || mesh6.Bits() != 64 {
		return netip.Addr{}
	}
	b, v4 := mesh6.Addr().As16(), a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}
