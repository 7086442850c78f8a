package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// askEvery is the pace of pings: the error of the times that they give.
const askEvery = 10 * time.Millisecond

// healthy is how many pings in a row must be answered for a path to be whole.
const healthy = 20

// pings asks one host again and again from another, and keeps which answers
// came. It is the measure of a path from outside the agents.
type pings struct {
	conn net.PacketConn
	to   netip.Addr
	id   uint16
	done chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex // guards the fields below
	sent []time.Time
	back []bool
}

// newPings sends over a raw ICMP socket, which it closes in the end.
func newPings(conn net.PacketConn, to netip.Addr, id uint16) *pings {
	p := &pings{conn: conn, to: to, id: id, done: make(chan struct{})}
	p.wg.Go(p.ask)
	p.wg.Go(p.hear)
	return p
}

func (p *pings) close() {
	close(p.done)
	_ = p.conn.Close()
	p.wg.Wait()
}

func (p *pings) ask() {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	to := &net.IPAddr{IP: p.to.AsSlice()}
	for n := uint64(0); ; n++ {
		// Echo request (RFC 792): type, code, checksum, id, sequence, data.
		b := make([]byte, 16)
		b[0] = 8
		binary.BigEndian.PutUint16(b[4:], p.id)
		binary.BigEndian.PutUint16(b[6:], uint16(n))
		binary.BigEndian.PutUint64(b[8:], n)
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		p.mu.Lock()
		p.sent, p.back = append(p.sent, time.Now()), append(p.back, false)
		p.mu.Unlock()
		_, _ = p.conn.WriteTo(b, to) // what cannot be sent is lost
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
	}
}

func (p *pings) hear() {
	buf := make([]byte, 200)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 16 || buf[0] != 0 || binary.BigEndian.Uint16(buf[4:]) != p.id || from.String() != p.to.String() {
			continue
		}
		seq := binary.BigEndian.Uint64(buf[8:])
		p.mu.Lock()
		if seq < uint64(len(p.back)) {
			p.back[seq] = true
		}
		p.mu.Unlock()
	}
}

// outage is what pings saw from a moment on.
type outage struct {
	lost   int           // not answered
	healed time.Duration // until the last of them was sent
}

// since tells what was lost of what was sent from t on; whole is false while the
// path does not stand: fewer than the last healthy pings were answered.
func (p *pings) since(t time.Time) (o outage, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const underway = 200 * time.Millisecond // answers that may still come
	row, end := 0, time.Now().Add(-underway)
	for i, at := range p.sent {
		switch {
		case at.Before(t) || at.After(end):
		case p.back[i]:
			row++
		default:
			row = 0
			o.lost++
			o.healed = at.Sub(t) + askEvery
		}
	}
	return o, row >= healthy
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
