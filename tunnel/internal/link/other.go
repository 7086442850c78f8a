//go:build !linux

package link

import (
	"errors"
	"net/netip"
)

// errOther is the answer on every other system.
var errOther = errors.New("interfaces are set up on Linux only; choose the netstack backend")

// State is the wish for an interface.
type State struct {
	Name string
	Addr netip.Addr
	Mesh netip.Prefix
	MTU  int
}

// Set refuses.
func Set(State) error { return errOther }

// MTU refuses.
func MTU(string) (int, error) { return 0, errOther }

// Exists refuses.
func Exists(string) (exists, tun bool, err error) { return false, false, errOther }

// Remove finds nothing to remove: nothing was ever created.
func Remove(string) error { return nil }

// Clash refuses.
func Clash(netip.Prefix, string) error { return errOther }

// Forward refuses.
func Forward(string) ([]string, error) { return nil, errOther }
