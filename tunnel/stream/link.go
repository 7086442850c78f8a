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

// read hands every datagram to take, and after each batch of them calls done,
// until the connection ends; the error says why. A datagram stays as it is until
// done has returned.
func (l *link) read(take func(d []byte), done func()) error {
	for {
		l.SetReadDeadline(time.Now().Add(silentAfter))
		n, err := l.Conn.Read(l.in.space())
		l.in.add(n)
		came := uint64(0)
		for {
			d, ok, bad := l.in.next()
			if bad != nil {
				done()
				l.c.junk.Add(1)
				return bad
			}
			if !ok {
				break
			}
			if len(d) > 0 {
				came++
				take(d)
			}
		}
		done()
		l.c.in.Add(came)
		if err != nil {
			return err
		}
	}
}

// frames collects datagrams for one write into a connection.
type frames struct {
	buf []byte
	n   int
}

// newFrames has room for a full batch and one chunk more.
func newFrames() *frames { return &frames{buf: make([]byte, 0, batchLen+2*chunkLen)} }

func (f *frames) add(d []byte) {
	f.buf = append(append(f.buf, byte(len(d)>>8), byte(len(d))), d...)
	f.n++
}

func (f *frames) full() bool { return len(f.buf) >= batchLen }

// put writes what was collected, and is empty again.
func (f *frames) put(to *link) (err error) {
	if f.n > 0 && to != nil {
		if err = to.write(f.buf); err == nil {
			to.c.out.Add(uint64(f.n))
		}
	}
	f.buf, f.n = f.buf[:0], 0
	return err
}

// each goes through a chunk, datagram by datagram, but for what is none.
func each(chunk []byte, size int, f func(d []byte)) {
	for len(chunk) > 0 && size > 0 {
		n := min(size, len(chunk))
		if plausible(chunk[:n]) {
			f(chunk[:n])
		}
		chunk = chunk[n:]
	}
}

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
