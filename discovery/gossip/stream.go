package gossip

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream whose answer is sifted like any other.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	at, err := t.destination(to)
	if err != nil {
		return nil, err
	}
	conn, err := t.dial(at, timeout)
	if err != nil {
		return nil, err
	}
	conn.told = t.told()
	conn.fetch = func() ([]byte, error) {
		r := bounded(conn.Conn)
		kind, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		b, why := t.sieve.stream(kind, r, at.Addr())
		if why != "" {
			t.g.count.add(why, 1)
			return nil, errRefused
		}
		return b, nil
	}
	return conn, nil
}

func (t *transport) dial(at netip.AddrPort, timeout time.Duration) (*stream, error) {
	ctx, cancel := context.WithTimeout(t.ctx, min(timeout, dialTime))
	defer cancel()
	raw, err := t.g.opt.Network.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	t.g.count.add(countStreamsOut, 1)
	conn := &stream{Conn: raw, close: func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, raw)
	}}
	raw.SetDeadline(time.Now().Add(streamTime))
	t.mu.Lock()
	t.open[raw] = struct{}{}
	dead := t.ctx.Err() != nil
	t.mu.Unlock()
	if dead {
		conn.end()
		return nil, net.ErrClosed
	}
	return conn, nil
}

// stream is a connection whose one incoming message was, or at the first Read
// will be, taken in whole.
type stream struct {
	net.Conn
	close func()
	once  sync.Once // of close

	fetch func() ([]byte, error) // nil: read is there already
	read  []byte
	told  []byte // of notices, for the first message that is written
}

// told is what a push/pull tells of notices; nil: nothing.
func (t *transport) told() []byte {
	if !t.g.exchanges() {
		return nil
	}
	return t.g.held()
}

// Write writes a message of memberlist's, which comes in one piece.
func (s *stream) Write(p []byte) (int, error) {
	b := withNotices(p, s.told)
	s.told = nil
	n, err := s.Conn.Write(b)
	return min(n, len(p)), err
}

// Read gives what passed, then the end.
func (s *stream) Read(p []byte) (int, error) {
	if s.fetch != nil {
		b, err := s.fetch()
		s.fetch, s.read = nil, b
		if err != nil {
			return 0, err
		}
	}
	if len(s.read) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.read)
	s.read = s.read[n:]
	return n, nil
}

// Close closes the connection and frees its place.
func (s *stream) Close() error {
	s.once.Do(s.close)
	return s.Conn.Close()
}

func (s *stream) end() { _ = s.Close() }
