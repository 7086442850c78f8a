//go:build !linux

package nft

import (
	"context"
	"errors"
	"log/slog"

	"drawbridge/tunnel"
)

var errOther = errors.New("the packet filter exists on Linux only; choose the netstack backend, which refuses by itself what is not listened on")

// Options of a [Table].
type Options struct {
	Logger *slog.Logger
}

// Table refuses everything.
type Table struct{}

// New makes a Table.
func New(Options) *Table { return &Table{} }

// Apply refuses.
func (*Table) Apply(context.Context, tunnel.Filter) error { return errOther }

// Cleanup finds nothing to remove: nothing was ever created.
func Cleanup() error { return nil }

// Available refuses.
func Available() error { return errOther }
