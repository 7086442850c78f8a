package bind

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes knows whether the host's routes or addresses have changed, and asks
// what became of a source then.
type routes struct {
	age    atomic.Uint32 // grows with every change
	events *os.File      // netlink, of changes
	done   sync.WaitGroup

	mu  sync.Mutex // guards asking
	ask *netlink.Handle
}

// watchRoutes follows the network of the calling thread.
func watchRoutes() (*routes, error) {
	ask, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		ask.Close()
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	const changes = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) |
		1<<(unix.RTNLGRP_IPV6_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: changes}); err != nil {
		ask.Close()
		return nil, errors.Join(fmt.Errorf("watch routes: %w", err), unix.Close(fd))
	}
	r := &routes{ask: ask, events: os.NewFile(uintptr(fd), "netlink")}
	r.done.Go(r.watch)
	return r, nil
}

// watch counts messages and does not read them: whatever changed, every source
// is asked for once more. So is it when the kernel could not keep up (ENOBUFS).
func (r *routes) watch() {
	b := make([]byte, 4096)
	for {
		_, err := r.events.Read(b)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		r.age.Add(1)
	}
}

// check clears the source of e when the host would not send from it, through
// the interface that the peer came in by. It asks once after each change.
func (r *routes) check(e *Endpoint) {
	age := r.age.Load()
	if e.checked.Load() == age || e.stale.Load() {
		return
	}
	if !r.holds(e) {
		e.ClearSrc()
	}
	e.checked.Store(age)
}

func (r *routes) holds(e *Endpoint) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, err := r.ask.RouteGetWithOptions(e.dst.Addr().AsSlice(), &netlink.RouteGetOptions{SrcAddr: e.src.addr.AsSlice()})
	return err == nil && len(found) == 1 && found[0].LinkIndex == int(e.src.ifindex)
}

func (r *routes) close() error {
	err := r.events.Close()
	r.done.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ask.Close()
	return err
}
