package enroll

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFloodHalfOpen sends 10,000 SYNs from addresses that never answer, in a
// network of its own. They are the kernel's to bear, with SYN cookies; nothing
// of what this package sets on the listener may spoil that.
func TestFloodHalfOpen(t *testing.T) {
	const size = 10000
	if os.Getenv("HALF_OPEN") == "" {
		inOwnNetwork(t)
		return
	}
	for _, args := range []string{
		"link set lo up", "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up", "addr add 192.0.2.1/24 dev v0",
		"route add default via 192.0.2.9", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev v0",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", args, err, out)
		}
	}
	s := newServingAt(t, "192.0.2.1:0")
	raw, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(raw)
	to := netip.MustParseAddrPort(s.addr)
	for i := range size {
		src := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		if err := syscall.Sendto(raw, syn(src, to, uint16(1024+i)), 0, &syscall.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if n := inState(t, to, "03"); n < 100 { // SYN_RECV
		t.Errorf("only %d half-open connections: this is no flood", n)
	}
	tok := s.token(t, func(o *TokenOptions) { o.Addrs = []string{s.addr} })
	if _, err := join(t, options(t, tok, "gpu-1")); err != nil {
		t.Error(err)
	}
	if n := s.srv.Counters()["accepted"]; n != 1 {
		t.Errorf("%d connections came in", n)
	}
}

// inOwnNetwork runs this test again in a user and a network namespace.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), "HALF_OPEN=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := child.CombinedOutput()
	if child.Process == nil {
		t.Skipf("no namespaces here: %v", err)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// syn is an IPv4 packet that begins a TCP connection.
func syn(src netip.Addr, to netip.AddrPort, port uint16) []byte {
	from, dst := src.As4(), to.Addr().As4()
	p := make([]byte, 40)
	p[0], p[8], p[9] = 0x45, 64, syscall.IPPROTO_TCP
	copy(p[12:], from[:])
	copy(p[16:], dst[:])
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, port)
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], uint32(port)<<8)
	tcp[12], tcp[13] = 5<<4, 2 // header of five words; SYN
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	// The pseudo-header's sum: addresses, protocol, length.
	sum := uint32(syscall.IPPROTO_TCP + 20)
	for i := 12; i < 40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return p
}

// inState counts the sockets of a local address in a state of /proc/net/tcp.
func inState(t *testing.T, at netip.AddrPort, state string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", at.Port())) && f[3] == state {
			n++
		}
	}
	return n
}

// inTimeWait is what the kernel still remembers of closed connections.
func inTimeWait(t *testing.T, addr string) int {
	t.Helper()
	return inState(t, netip.MustParseAddrPort(addr), "06")
}
