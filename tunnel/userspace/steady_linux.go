package userspace

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel/internal/burst"
)

// reads is how many system calls one Read makes at most to fill its batch.
// Small packets come one per call; WireGuard hands a batch on at once, so its
// goroutines wake once for many.
const reads = 64

// largest is what one system call reads at most: a burst with its header.
const largest = burst.HeaderLen + 1<<16

// steady is the module's TUN with reads and writes of our own, that move
// packets in batches, and without telling WireGuard that the interface goes up
// or down: the device follows the wish. Otherwise a fresh interface, which is
// down at first, takes the device down again.
type steady struct {
	tun.Device
	raw    syscall.RawConn
	events chan tun.Event

	in  reader
	out writer
}

// newSteady starts the goroutine that ends when t closes its events, as every
// tun.Device does on Close. t must have been made with IFF_VNET_HDR.
func newSteady(t tun.Device) (*steady, error) {
	s := &steady{Device: t, events: make(chan tun.Event, 1)}
	var err error
	if s.raw, err = t.File().SyscallConn(); err != nil {
		return nil, fmt.Errorf("read interface: %w", err)
	}
	s.in.init()
	s.out.init()
	s.out.joiner.UDP = takesUDP(s.raw)
	go s.filter()
	return s, nil
}

// takesUDP asks for bursts of UDP too (Linux 6.2).
func takesUDP(raw syscall.RawConn) bool {
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
	var errno error
	err := raw.Control(func(fd uintptr) { errno = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, all) })
	return err == nil && errno == nil
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

// Read waits for a packet and takes along what else is there, until the batch
// is full.
func (s *steady) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	r := &s.in
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.cut.Emit(packets, sizes, offset)
	for tries := 0; n < len(packets) && tries < reads; tries++ {
		wait := r.wait
		if n > 0 {
			wait = r.look
		}
		if err := s.raw.Read(wait); err != nil {
			return n, os.ErrClosed
		}
		switch {
		case errors.Is(r.err, unix.EAGAIN):
			return n, nil
		case errors.Is(r.err, unix.EBADFD):
			return n, os.ErrClosed // somebody removed the interface
		case r.err != nil:
			return n, fmt.Errorf("read interface: %w", r.err)
		}
		if err := r.cut.Open(r.buf[:r.n]); err != nil {
			continue // lost, as a packet with a bad header is
		}
		n += r.cut.Emit(packets[n:], sizes[n:], offset)
	}
	return n, nil
}

// reader is the state of Read.
type reader struct {
	mu  sync.Mutex // guards the rest
	cut burst.Cutter
	buf []byte

	n          int
	err        error
	wait, look func(fd uintptr) bool // made once, so that a call allocates nothing
}

func (r *reader) init() {
	r.buf = make([]byte, largest)
	r.look = func(fd uintptr) bool {
		for {
			r.n, r.err = unix.Read(int(fd), r.buf)
			if !errors.Is(r.err, unix.EINTR) {
				return true
			}
		}
	}
	r.wait = func(fd uintptr) bool { return r.look(fd) && !errors.Is(r.err, unix.EAGAIN) }
}

// Write hands packets to the host, those of a flow in bursts where it can.
func (s *steady) Write(packets [][]byte, offset int) (int, error) {
	w := &s.out
	w.mu.Lock()
	defer w.mu.Unlock()
	var first error
	for i := range w.joiner.Join(packets, offset) {
		w.iovs = vectors(w.iovs[:0], w.joiner.Write(i, packets, offset))
		if err := s.raw.Write(w.write); err != nil || errors.Is(w.err, unix.EBADFD) {
			return 0, os.ErrClosed
		}
		if w.err != nil && first == nil {
			first = fmt.Errorf("write interface: %w", w.err) // one lost packet; the others may pass
		}
	}
	return len(packets), first
}

// writer is the state of Write.
type writer struct {
	mu     sync.Mutex // guards the rest
	joiner burst.Joiner
	iovs   []unix.Iovec

	err   error
	write func(fd uintptr) bool
}

func (w *writer) init() {
	w.write = func(fd uintptr) bool {
		for {
			_, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.iovs))), uintptr(len(w.iovs)))
			switch w.err = nil; errno {
			case 0:
				return true
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return false
			}
			w.err = errno
			return true
		}
	}
}

func vectors(iovs []unix.Iovec, parts [][]byte) []unix.Iovec {
	for _, b := range parts {
		v := unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		iovs = append(iovs, v)
	}
	return iovs
}
