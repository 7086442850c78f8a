package bind

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	offloadOn       = "on"
	offloadRefused  = "off: the network card refused to cut bursts (EIO)"
	offloadNoSend   = "off: this kernel cannot send bursts (UDP_SEGMENT, Linux 4.18)"
	offloadNoGather = "off: this kernel cannot receive bursts (UDP_GRO, Linux 5.0)"
)

// burstRoom is the receive buffer where [queue.Transit] keeps what stands in
// it short: room for bursts, 7 MB as the module has it.
const burstRoom = 7 << 20

// socket is one UDP socket.
type socket struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	is6    bool
	port   uint16
	gather bool        // UDP_GRO
	noSend bool        // no UDP_SEGMENT
	refuse atomic.Bool // the network card refused UDP_SEGMENT
	routes *routes     // nil where netlink is not to be had

	ears
}

func listen(family int, port uint16, e ears) (*socket, error) {
	s := &socket{is6: family == unix.AF_INET6, ears: e}
	network := "udp4"
	if s.is6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = s.configure(int(fd)) }); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, err
	}
	s.conn = c.(*net.UDPConn)
	s.port = uint16(s.conn.LocalAddr().(*net.UDPAddr).Port)
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		_ = s.conn.Close()
		return nil, err
	}
	return s, nil
}

// configure sets what the package promises. What only speeds up may fail.
func (s *socket) configure(fd int) error {
	type option struct {
		name              string
		level, opt, value int
	}
	must := []option{
		{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
	}
	if s.is6 {
		must = []option{
			{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
		}
	}
	for _, o := range must {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	s.noSend = err != nil
	s.gather = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	if s.transit == nil {
		return nil
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) == nil {
		// Beyond the system's limit only with CAP_NET_ADMIN.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, burstRoom)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, burstRoom)
	}
	return nil
}

// bursts reports whether UDP_SEGMENT is to be used.
func (s *socket) bursts() bool { return !s.noSend && !s.refuse.Load() }

func (s *socket) offload() string {
	switch {
	case s.noSend:
		return offloadNoSend
	case s.refuse.Load():
		return offloadRefused
	case !s.gather:
		return offloadNoGather
	}
	return offloadOn
}

func (s *socket) close() error { return s.conn.Close() }
