package probe

import (
	"net"
	"syscall"
	"testing"
)

// wrapped is a system socket as a device hands it out.
type wrapped struct{ *net.UDPConn }

func TestSystemSocketIsNotCut(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := forbidCutting(wrapped{c}); err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	_ = raw.Control(func(fd uintptr) {
		got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER)
	})
	if err != nil || got != syscall.IP_PMTUDISC_PROBE {
		t.Errorf("IP_MTU_DISCOVER is %d, %v", got, err)
	}
}
