package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// pipeBuffer is what is copied at once: some 50 packets of the default MTU.
const pipeBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, pipeBuffer); return &b }}

// join copies between two connections until both directions have ended, one
// breaks, or ctx ends, and closes both. The end of one direction is passed on
// as such (half-close), the other goes on.
func join(ctx context.Context, a, b net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	var both sync.WaitGroup
	var errs [2]error
	for i, way := range [2][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			if errs[i] = flow(way[0], way[1]); errs[i] != nil {
				cancel(errs[i]) // a broken connection ends both directions
			}
		})
	}
	both.Wait()
	cancel(nil)
	if stop() {
		a.Close()
		b.Close()
	}
	return ignoreClosed(errors.Join(errs[:]...))
}

// flow copies from src to dst and passes the end on.
func flow(dst, src net.Conn) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	// Plain Reader and Writer, so that the pooled buffer is really used.
	if _, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *buf); err != nil {
		return err
	}
	if h, ok := dst.(interface{ CloseWrite() error }); ok {
		return ignoreClosed(h.CloseWrite())
	}
	return dst.Close()
}

// ignoreClosed forgets the error that only says that we ended it.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
