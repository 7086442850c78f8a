package enroll

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// losing dials connections of which the first n lose the gateway's answer:
// they break at the first byte that comes after the second flight of ours (the
// question).
func losing(n int) dialer {
	var mu sync.Mutex
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dialTCP(ctx, addr)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || n == 0 {
			return conn, err
		}
		n--
		return &lossy{Conn: conn}, nil
	}
}

// lossy lets the handshake pass: the client writes its hello, then its
// finished message, then the question.
type lossy struct {
	net.Conn
	writes int
}

func (l *lossy) Write(b []byte) (int, error) {
	l.writes++
	return l.Conn.Write(b)
}

func (l *lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.writes >= 3 {
		return 0, errors.New("the line is cut")
	}
	return n, err
}

// blockHistory makes the journal of a state directory unwritable, also for root.
func blockHistory(t *testing.T, state string) {
	t.Helper()
	path := filepath.Join(state, "history")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
}
