package stream

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"drawbridge/tunnel"
)

// line is one wished stream: the leg to the device, the leg to the peer by UDP,
// and the connection, while there is one.
type line struct {
	carrier *Carrier
	wish    tunnel.Stream // but To, which may change
	leg     *leg
	udp     *leg
	ctx     context.Context // of this line
	cancel  context.CancelFunc

	mu     sync.Mutex // guards the fields below
	link   *link      // nil: none
	way    way
	held   *frames // they wait for the end of a trial, the trial's first
	status tunnel.StreamStatus

	spare *frames // empty; of the goroutine that sends
}

func newLine(ctx context.Context, c *Carrier, s tunnel.Stream) (*line, error) {
	l := &line{carrier: c, wish: s, held: newFrames(), spare: newFrames()}
	var err error
	if l.leg, err = openLoopback(ctx, c.opts.Device); err != nil {
		return nil, err
	}
	if l.udp, err = openOutside(ctx, s.UDP); err != nil {
		l.leg.close()
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.status = tunnel.StreamStatus{Key: s.Key, To: s.To, Local: l.leg.addr(), Since: time.Now()}
	return l, nil
}

// stop ends the line at once; run returns soon after.
func (l *line) stop() {
	l.cancel()
	l.leg.close()
	l.udp.close()
}

// run carries datagrams until stop or the end of the carrier's context.
func (l *line) run() {
	defer l.stop()
	defer context.AfterFunc(l.ctx, l.stop)()
	var ways sync.WaitGroup
	defer ways.Wait()
	ways.Go(l.send)
	ways.Go(l.hear)
	l.connect()
}

// send takes what the device sends to wherever it goes. No lock is held while
// it writes to a connection.
func (l *line) send() {
	chunk, out := make([]byte, chunkLen), newFrames()
	var to *link
	one := func(d []byte) {
		k, full := l.choose(d)
		if full { // in order: what is held is older than d, and newer than out
			_ = out.put(to)
			l.flush()
		}
		if k != nil {
			to = k
			out.add(d)
		}
	}
	for {
		n, size, err := l.leg.read(chunk)
		if errors.Is(err, os.ErrDeadlineExceeded) { // of a trial
			l.flush()
			continue
		}
		if gone(err) {
			return
		}
		if err != nil {
			continue // the device is away for a moment
		}
		for each(chunk[:n], size, one); !out.full(); {
			if n, size = l.leg.more(chunk); n == 0 {
				break
			}
			each(chunk[:n], size, one)
		}
		_ = out.put(to) // the reader of a connection that ends says why
	}
}

// choose sends a datagram by UDP or holds it back, or names the connection that
// it goes into. full: what is held goes first.
func (l *line) choose(d []byte) (to *link, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.way.udp
	c := l.way.out(time.Now(), d, l.link != nil)
	if was && !l.way.udp {
		l.carrier.c.relapses.Add(1)
		l.carrier.log.Info("udp fell silent again", "peer", l.wish.Key, "endpoint", l.wish.UDP)
		poke(l.carrier.changed)
	}
	switch c {
	case toUDP:
		_, _ = l.udp.Write(d) // lost, as UDP loses
		return nil, false
	case toTrial:
		l.carrier.c.trials.Add(1)
		_, _ = l.udp.Write(d)
		_ = l.leg.SetReadDeadline(time.Now().Add(trialHold))
		fallthrough
	case toHold:
		if len(l.held.buf)+headerLen+len(d) <= maxHeld {
			l.held.add(d)
			return nil, false
		}
		return l.link, true
	}
	return l.link, false
}

// flush ends a trial that got no answer: what was held goes into the stream.
func (l *line) flush() {
	l.mu.Lock()
	l.held, l.spare = l.spare, l.held
	l.way.holding = false
	_ = l.leg.SetReadDeadline(time.Time{})
	to, was := l.link, l.spare
	l.mu.Unlock()
	_ = was.put(to)
}

// hear takes what the peer sends by UDP to the device.
func (l *line) hear() {
	buf := make([]byte, maxDatagram)
	for {
		n, err := l.udp.Read(buf)
		if gone(err) {
			return
		}
		if err != nil || !plausible(buf[:n]) {
			continue
		}
		l.answered(buf[:n])
		_, _ = l.leg.Write(buf[:n])
	}
}

// answered notes a datagram by UDP. At the end of a trial that it ends, what is
// held goes out by UDP, but for the first, which went already.
func (l *line) answered(d []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.way.answered(time.Now(), d) {
		return
	}
	for i, b := 0, l.held.buf; len(b) > headerLen; i++ {
		end := headerLen + int(b[0])<<8 + int(b[1])
		if i > 0 {
			_, _ = l.udp.Write(b[headerLen:end])
		}
		b = b[end:]
	}
	_ = l.held.put(nil)
	_ = l.leg.SetReadDeadline(time.Time{})
	l.carrier.c.returns.Add(1)
	l.carrier.log.Info("udp works again", "peer", l.wish.Key, "endpoint", l.wish.UDP)
	poke(l.carrier.changed)
	poke(l.carrier.opened)
}

// report is the status now.
func (l *line) report() tunnel.StreamStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.way.judge(now)
	st := l.status
	st.UDP = l.way.settled(now)
	return st
}

// redirect changes where the stream goes to. The next dial goes there, at its time.
func (l *line) redirect(to netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.To == to {
		return
	}
	l.status.To, l.status.Err = to, ""
	if l.link != nil {
		abort(l.link.Conn)
	}
}
