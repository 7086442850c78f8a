package stream

import (
	"errors"
	"syscall"
	"unsafe"
)

// Socket options that package syscall does not name (linux/udp.h).
const (
	solUDP     = 17
	udpSegment = 103
	udpGRO     = 104
)

// half is what one direction hands to the kernel, made once: the kernel gets
// pointers into it, and nothing is allocated for a datagram.
type half struct {
	call func(fd uintptr) bool
	wait bool
	hdr  syscall.Msghdr
	iov  [maxBurst]syscall.Iovec
	ctl  [8]uint64 // room for one control message, aligned
	n    int
	size int // of each datagram
	err  error
	gso  bool
}

func (h *half) init(call func(uintptr) bool) {
	h.call = call
	h.hdr.Iov = &h.iov[0]
}

// offload lets bursts pass in one system call, where the kernel can.
func (l *leg) offload() {
	_ = l.raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), solUDP, udpGRO, 1)
		_, err := syscall.GetsockoptInt(int(fd), solUDP, udpSegment)
		l.out.gso = err == nil
	})
}

// read waits for datagrams: they lie in b one behind the other, each of size
// bytes, the last perhaps of fewer.
func (l *leg) read(b []byte) (n, size int, err error) {
	h := &l.in
	h.wait = true
	h.into(b)
	if err := l.raw.Read(h.call); err != nil {
		return 0, 0, err
	}
	return h.n, h.size, h.err
}

// more reads what is there already; 0: nothing.
func (l *leg) more(b []byte) (n, size int) {
	h := &l.in
	h.wait = false
	h.into(b)
	if err := l.raw.Read(h.call); err != nil || h.err != nil {
		return 0, 0
	}
	return h.n, h.size
}

func (h *half) into(b []byte) {
	h.n, h.size, h.err = 0, 0, nil
	h.iov[0].Base = &b[0]
	h.iov[0].SetLen(len(b))
	setLen(&h.hdr.Iovlen, 1)
	h.hdr.Control = (*byte)(unsafe.Pointer(&h.ctl))
	h.hdr.SetControllen(int(unsafe.Sizeof(h.ctl)))
}

// readOnce is one recvmsg; false: wait until there is something.
func (l *leg) readOnce(fd uintptr) bool {
	h := &l.in
	n, _, errno := syscall.Syscall(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&h.hdr)), syscall.MSG_DONTWAIT)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return !h.wait
	case errno != 0:
		h.err = errno
		return true
	}
	h.n, h.size = int(n), int(n)
	if s := h.segment(); s > 0 {
		h.size = s
	}
	return true
}

// segment is the size of each datagram, if the kernel put several together.
func (h *half) segment() int {
	have := int(h.hdr.Controllen)
	head := h.head()
	if have < syscall.CmsgLen(4) || head.Level != solUDP || head.Type != udpGRO {
		return 0
	}
	return int(*(*int32)(h.body()))
}

// head and body are the parts of the control message.
func (h *half) head() *syscall.Cmsghdr { return (*syscall.Cmsghdr)(unsafe.Pointer(&h.ctl)) }

func (h *half) body() unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(&h.ctl), syscall.CmsgLen(0))
}

// send sends datagrams of one size, of which only the last may be shorter.
func (l *leg) send(list [][]byte) {
	h := &l.out
	if len(list) > 1 && !h.gso {
		for i := range list {
			l.send(list[i : i+1])
		}
		return
	}
	for i, d := range list {
		h.iov[i].Base = &d[0]
		h.iov[i].SetLen(len(d))
	}
	setLen(&h.hdr.Iovlen, len(list))
	h.hdr.Control = nil
	h.hdr.SetControllen(0)
	if len(list) > 1 {
		head := h.head()
		head.Level, head.Type = solUDP, udpSegment
		head.SetLen(syscall.CmsgLen(2))
		*(*uint16)(h.body()) = uint16(len(list[0]))
		h.hdr.Control = (*byte)(unsafe.Pointer(&h.ctl))
		h.hdr.SetControllen(syscall.CmsgSpace(2))
	}
	h.err = nil
	if err := l.raw.Write(h.call); err != nil {
		return
	}
	if len(list) > 1 && (errors.Is(h.err, syscall.EIO) || errors.Is(h.err, syscall.EINVAL)) {
		h.gso = false // not here after all
		l.send(list)
	}
}

// writeOnce is one sendmsg. It never waits: what does not fit is lost.
func (l *leg) writeOnce(fd uintptr) bool {
	h := &l.out
	_, _, errno := syscall.Syscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h.hdr)), syscall.MSG_DONTWAIT)
	if errno != 0 {
		h.err = errno
	}
	return true
}

// setLen sets a length whose type differs between machines.
func setLen[T ~uint32 | ~uint64](at *T, n int) { *at = T(n) }
