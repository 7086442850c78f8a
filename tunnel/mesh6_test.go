package tunnel

import (
	"net/netip"
	"testing"
)

func TestMesh6(t *testing.T) {
	p := netip.MustParsePrefix("10.86.0.0/16")
	m := Mesh6("demo", p)
	if !m.IsValid() || m.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(m.Addr()) || m != m.Masked() {
		t.Fatalf("%s is no /64 of unique local addresses", m)
	}
	if m != Mesh6("demo", netip.MustParsePrefix("10.86.3.4/16")) {
		t.Error("host bits of the prefix count")
	}
	if m == Mesh6("demo2", p) || m == Mesh6("demo", netip.MustParsePrefix("10.87.0.0/16")) {
		t.Error("another mesh has the same prefix")
	}
	a := netip.MustParseAddr("10.86.3.4")
	six := Addr6(m, a)
	if b := six.As16(); !m.Contains(six) || [4]byte(b[12:]) != a.As4() {
		t.Errorf("%s does not carry %s in %s", six, a, m)
	}
	for _, bad := range []netip.Addr{{}, six} {
		if got := Addr6(m, bad); got.IsValid() {
			t.Errorf("%s became %s", bad, got)
		}
	}
	if got := Addr6(netip.Prefix{}, a); got.IsValid() {
		t.Errorf("no mesh, but %s", got)
	}
}
