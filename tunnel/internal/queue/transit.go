package queue

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sample = 16   // one datagram in so many is followed: those whose counter it divides
	slots  = 1024 // of them at a time
	// transport is the type of WireGuard's data messages and headerLen the size
	// of their header: type, receiver, counter (https://www.wireguard.com/protocol).
	transport = 4
	headerLen = 16
	// small packets are never dropped.
	small = 256
	// lost is the delay beyond which a clock was set.
	lost = 10 * time.Second
)

// Transit follows datagrams from the wire to the host. The zero value is
// ready; In and Late may be called from several goroutines.
type Transit struct {
	slots [slots]slot

	mu    sync.Mutex // guards codel
	codel Codel
}

type slot struct {
	key atomic.Uint64
	at  atomic.Int64 // ns since 1970
}

// In notes a datagram that came at the given time. What is no WireGuard data
// is none of ours.
func (t *Transit) In(datagram []byte, at time.Time) {
	if len(datagram) < headerLen || binary.LittleEndian.Uint32(datagram) != transport || datagram[8]%sample != 0 {
		return
	}
	key := keyOf(datagram)
	s := &t.slots[slotOf(key)]
	s.at.Store(at.UnixNano())
	s.key.Store(key)
}

// Late reports whether to drop one packet of the batch that goes to the host
// now, and which. Each begins at offset in its place, and in front of it still
// stands the header of the datagram it came in.
func (t *Transit) Late(now time.Time, packets [][]byte, offset int) (which int, drop bool) {
	if offset != headerLen {
		return 0, false
	}
	for _, p := range packets {
		if len(p) < headerLen || p[8]%sample != 0 {
			continue
		}
		key := keyOf(p)
		s := &t.slots[slotOf(key)]
		if s.key.Load() != key {
			continue
		}
		delay := now.Sub(time.Unix(0, s.at.Load()))
		if delay < 0 || delay > lost {
			continue
		}
		t.mu.Lock()
		drop = t.codel.Drop(now, delay) || drop
		t.mu.Unlock()
	}
	if !drop {
		return 0, false
	}
	for i, p := range packets {
		if len(p)-offset >= small {
			return i, true
		}
	}
	return 0, false
}

// keyOf tells datagrams of this host apart for some minutes: the receiver's
// index and the lower half of the counter.
func keyOf(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b[4:]))<<32 | uint64(binary.LittleEndian.Uint32(b[8:]))
}

// slotOf spreads sessions, whose counters begin alike.
func slotOf(key uint64) uint64 { return (key/sample + key>>32*0x9e3779b1) % slots }
