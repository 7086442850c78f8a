//go:build !linux

package bind

import (
	"golang.zx2c4.com/wireguard/conn"

	"drawbridge/tunnel/internal/queue"
)

// Bind is the module's own.
type Bind struct{ conn.Bind }

// New makes a Bind that is closed.
func New(*queue.Transit, func()) *Bind { return &Bind{conn.NewDefaultBind()} }

// Offload is not known here.
func (b *Bind) Offload() string { return "" }
