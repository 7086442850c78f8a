//go:build !linux

package link

import (
	"errors"
	"io"
	"net/netip"
)

// errOther is the answer on every other system.
var errOther = errors.New("interfaces are set up on Linux only; choose the netstack backend")

// Set refuses.
func Set(State) (Outcome, error) { return Outcome{}, errOther }

// MTU refuses.
func MTU(string) (int, error) { return 0, errOther }

// Find refuses.
func Find(string) (Kind, error) { return None, errOther }

// Remove finds nothing to remove: nothing was ever created.
func Remove(string) (bool, error) { return false, nil }

// Clash refuses.
func Clash(string, ...netip.Prefix) error { return errOther }

// Forward refuses.
func Forward(string) ([]string, error) { return nil, errOther }

// Make refuses.
func Make(string) error { return errOther }

// Hold refuses.
func Hold(string) (io.Closer, error) { return nil, errOther }

// Up refuses.
func Up(string) (bool, error) { return false, errOther }

// NotOurs says that there is nothing.
func NotOurs(string, Kind) error { return errOther }

// Delete finds nothing to remove.
func Delete(string) error { return nil }
