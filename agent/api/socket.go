package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is the longest path of a unix socket on Linux: sun_path has
// 108 bytes with its closing zero (unix(7)).
const maxSocketPath = 107

const otherSocket = "choose a path that this user may write with --socket or $DRAWBRIDGE_SOCKET, or run as root"

// ErrSocketTaken tells that another living process answers on the socket.
var ErrSocketTaken = errors.New("another agent answers on the socket")

// claim listens on path. A socket that nobody answers on is what a dead
// process left behind, and is removed; anything else is left alone.
func claim(ctx context.Context, path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on socket %s: path has %d bytes, %d are possible; choose a shorter --socket", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make socket directory: %w; %s", err, otherSocket)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w; %s", err, otherSocket)
	}
	// Removed by release, and only while it is still ours.
	ln.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("set mode of socket: %w", err), ln.Close(), os.Remove(path))
	}
	return ln, nil
}

func clearStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen on socket %s: a file that is no socket is in the way; move it or choose another --socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%w %s: stop it, or choose another --socket and --state-dir", ErrSocketTaken, path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove stale socket: %w", err)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// A full backlog or a missing right: somebody is there.
	return fmt.Errorf("%w %s, or may: %w", ErrSocketTaken, path, err)
}

// release closes the listener and removes the socket, unless another process
// has put its own in the place meanwhile.
func release(ln net.Listener, path string, ours fs.FileInfo) {
	ln.Close()
	if now, err := os.Lstat(path); err == nil && ours != nil && os.SameFile(now, ours) {
		os.Remove(path) //nolint:errcheck // a left-over socket is taken over by the next start
	}
}
