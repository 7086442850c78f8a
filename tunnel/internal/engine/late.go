package engine

import (
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel/internal/queue"
)

// late is a TUN that drops a packet now and then when all of them come late:
// the queue between socket and host has stood for too long.
type late struct {
	tun.Device
	transit *queue.Transit
}

func (l late) Write(packets [][]byte, offset int) (int, error) {
	if i, drop := l.transit.Late(time.Now(), packets, offset); drop {
		n, err := l.Device.Write(slices.Delete(packets, i, i+1), offset)
		return n + 1, err
	}
	return l.Device.Write(packets, offset)
}
