package engine

import (
	"runtime"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel/internal/queue"
)

// passage is a TUN with what wireguard-go lacks between itself and the host:
// on the way in, a packet is dropped now and then when all of them come late;
// on the way out, packets to peers without a session do not pile up.
type passage struct {
	tun.Device
	transit *queue.Transit
	gate    *gate
}

// Read first lets others run: those who encrypt and send what the last Read
// brought wait on this very processor, with the packets in its cache. Going on
// to read would leave them to others, who have to be woken for it.
func (p *passage) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	runtime.Gosched()
	n, err := p.Device.Read(packets, sizes, offset)
	p.gate.hold(packets[:n], sizes, offset)
	return n, err
}

// Write takes packets of one peer, as wireguard-go hands them over.
func (p *passage) Write(packets [][]byte, offset int) (int, error) {
	if len(packets) > 0 {
		p.gate.heard(packets[0][offset:])
	}
	if i, drop := p.transit.Late(time.Now(), packets, offset); drop {
		n, err := p.Device.Write(slices.Delete(packets, i, i+1), offset)
		return n + 1, err
	}
	return p.Device.Write(packets, offset)
}
