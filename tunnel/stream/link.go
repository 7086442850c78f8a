package stream

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	// pulseEvery is when an idle end gives a sign of life, and silentAfter when
	// the other end counts as gone: three may be lost.
	pulseEvery  = 1500 * time.Millisecond
	silentAfter = 6 * time.Second
)

// link is a TLS connection with frames in it. One goroutine reads, any may write.
type link struct {
	net.Conn
	c     *counters
	wrote atomic.Int64 // Unix nanoseconds
	in    splitter
}

// write sends whole frames. An error ends the connection.
func (l *link) write(frames []byte) error {
	now := time.Now()
	l.wrote.Store(now.UnixNano())
	l.SetWriteDeadline(now.Add(silentAfter))
	_, err := l.Conn.Write(frames)
	if err != nil {
		l.Conn.Close()
	}
	return err
}

// pulse gives signs of life until ctx ends or the connection does, and counts
// what found no room in the leg.
func (l *link) pulse(ctx context.Context, from *leg) {
	t := time.NewTicker(pulseEvery)
	defer t.Stop()
	lost := from.drops()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			n := from.drops()
			l.c.drops.Add(uint64(n - lost))
			lost = n
			if now.UnixNano()-l.wrote.Load() < int64(pulseEvery) {
				continue
			}
			if l.write([]byte{0, 0}) != nil {
				return
			}
		}
	}
}

// read hands every datagram to take, which must not keep it, until the
// connection ends; the error says why.
func (l *link) read(take func(d []byte)) error {
	for {
		l.SetReadDeadline(time.Now().Add(silentAfter))
		n, err := l.Conn.Read(l.in.space())
		l.in.add(n)
		for {
			d, ok, bad := l.in.next()
			if bad != nil {
				l.c.junk.Add(1)
				return bad
			}
			if !ok {
				break
			}
			if len(d) > 0 {
				l.c.in.Add(1)
				take(d)
			}
		}
		if err != nil {
			return err
		}
	}
}

// gather puts d, which lies in batch behind its header, and whatever else the
// leg has into frames. It returns the bytes in use.
func (l *leg) gather(batch []byte, n int, each func(d []byte)) int {
	putHeader(batch, n)
	end := headerLen + n
	for end < batchLen {
		n := l.more(batch[end+headerLen : end+headerLen+maxDatagram])
		if n == 0 {
			break
		}
		if d := batch[end+headerLen : end+headerLen+n]; plausible(d) {
			each(d)
			putHeader(batch[end:], n)
			end += headerLen + n
		}
	}
	return end
}

// batchCap is the size of a buffer for frames.
const batchCap = batchLen + headerLen + maxDatagram

// gone reports whether a socket was closed under the reader. Any other error
// tells of a datagram that was lost on the way out, because nobody listens
// there; it waits a moment, lest one that stays be read all the time.
func gone(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(5 * time.Millisecond)
	}
	return false
}
