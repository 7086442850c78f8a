package userspace_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"drawbridge/tunnel/internal/nstest"
)

// leave makes a TUN that outlives its maker, and made otherwise than ours.
func leave(t *testing.T, s *nstest.Space, name string) {
	s.Must(t, func() error {
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS, Queues: 1})
	})
}
