package userspace

import (
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	// drain is how many packets one Read gathers at most. Small packets come
	// one per system call; WireGuard hands a batch on at once, so that its
	// goroutines wake once for many.
	drain = 32
	// segments is the room a further read needs: the kernel may answer with
	// a burst of up to 64 kB, and a batch has 128 buffers.
	segments = 96
)

// steady is a TUN that reads in batches and does not tell WireGuard that the
// interface goes up or down: the device follows the wish. Otherwise a fresh
// interface, which is down at first, takes the device down again.
type steady struct {
	tun.Device
	events chan tun.Event
}

// newSteady starts the goroutine that ends when t closes its events, as every
// tun.Device does on Close.
func newSteady(t tun.Device) *steady {
	s := &steady{Device: t, events: make(chan tun.Event, 1)}
	go s.filter()
	return s
}

func (s *steady) filter() {
	defer close(s.events)
	for e := range s.Device.Events() {
		if e&tun.EventMTUUpdate == 0 {
			continue
		}
		select {
		case s.events <- tun.EventMTUUpdate:
		default: // one is waiting, and it will read the newest value
		}
	}
}

func (s *steady) Events() <-chan tun.Event { return s.events }

func (s *steady) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := s.Device.Read(bufs, sizes, offset)
	for err == nil && n > 0 && n < drain && len(bufs)-n >= segments && s.more() {
		var k int
		k, err = s.Device.Read(bufs[n:], sizes[n:], offset)
		n += k
	}
	return n, err
}

// more tells whether a packet waits. There is one reader, so it will still be
// there when it is read.
func (s *steady) more() bool {
	raw, err := s.File().SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ready = err == nil && n == 1 && p[0].Revents == unix.POLLIN
	})
	return err == nil && ready
}
