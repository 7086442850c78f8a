package probe

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"drawbridge/discovery"
)

// Bounds of a packet; see the wire format in the package comment.
const (
	wireVersion = 1
	headerLen   = 40
	maxPacket   = 1200
	viewHead    = 6
	maxSite     = 32
	maxViews    = (maxPacket - headerLen) / (viewHead + maxSite) // 30
	heldMax     = math.MaxUint32
	proofNever  = math.MaxUint32
	proofMax    = math.MaxUint32 - 1
)

type kind uint8

const (
	kindPulse kind = iota + 1
	kindRequest
	kindAnswer
)

var (
	errVersion   = errors.New("unknown version")
	errMalformed = errors.New("malformed packet")
)

// packet is one decoded datagram. The names in views alias the datagram.
type packet struct {
	kind      kind
	speaks    byte // highest version that the sender understands; 0: this one
	boot, seq uint64
	heardBoot uint64
	heard     uint64
	held      time.Duration // negative: longer than the field holds
	views     []told
}

// told is one view on the wire.
type told struct {
	site  []byte
	state discovery.ViewState
	age   time.Duration // of the newest proof; negative: never
}

// encode writes the packet into b, which must hold maxPacket bytes, and returns
// the used part. Views beyond maxViews are left out.
func (p *packet) encode(b []byte) []byte {
	views := p.views[:min(len(p.views), maxViews)]
	b = b[:headerLen]
	b[0], b[1], b[2], b[3] = wireVersion, byte(p.kind), byte(len(views)), p.speaks
	binary.BigEndian.PutUint64(b[4:], p.boot)
	binary.BigEndian.PutUint64(b[12:], p.seq)
	binary.BigEndian.PutUint64(b[20:], p.heardBoot)
	binary.BigEndian.PutUint64(b[28:], p.heard)
	binary.BigEndian.PutUint32(b[36:], wireHeld(p.held))
	for _, v := range views {
		b = append(b, byte(len(v.site)), stateByte(v.state))
		b = binary.BigEndian.AppendUint32(b, wireAge(v.age))
		b = append(b, v.site...)
	}
	return b
}

// decode reads b into the packet, reusing its views. It never keeps more than
// maxViews and refuses what encode would not have written.
func (p *packet) decode(b []byte) error {
	if len(b) < 1 {
		return errMalformed
	}
	if b[0] != wireVersion {
		return errVersion
	}
	if len(b) < headerLen || len(b) > maxPacket {
		return errMalformed
	}
	p.kind, p.speaks = kind(b[1]), b[3]
	p.boot = binary.BigEndian.Uint64(b[4:])
	p.seq = binary.BigEndian.Uint64(b[12:])
	p.heardBoot = binary.BigEndian.Uint64(b[20:])
	p.heard = binary.BigEndian.Uint64(b[28:])
	p.held = -1
	if h := binary.BigEndian.Uint32(b[36:]); h != heldMax {
		p.held = time.Duration(h) * time.Microsecond
	}
	if p.kind < kindPulse || p.kind > kindAnswer || p.seq == 0 || p.boot == 0 || b[2] > maxViews {
		return errMalformed
	}
	return p.decodeViews(int(b[2]), b[headerLen:])
}

func (p *packet) decodeViews(n int, b []byte) error {
	p.views = p.views[:0]
	for range n {
		if len(b) < viewHead {
			return errMalformed
		}
		end := viewHead + int(b[0])
		state, ok := byteState(b[1])
		if !ok || b[0] == 0 || b[0] > maxSite || len(b) < end || !printable(b[viewHead:end]) {
			return errMalformed
		}
		v := told{site: b[viewHead:end], state: state, age: -1}
		if a := binary.BigEndian.Uint32(b[2:]); a != proofNever {
			v.age = time.Duration(a) * time.Millisecond
		}
		p.views = append(p.views, v)
		b = b[end:]
	}
	if len(b) != 0 {
		return errMalformed
	}
	return nil
}

func wireHeld(d time.Duration) uint32 {
	us := d.Microseconds()
	if d < 0 || us >= heldMax {
		return heldMax
	}
	return uint32(us)
}

func wireAge(d time.Duration) uint32 {
	if d < 0 {
		return proofNever
	}
	return uint32(min(d.Milliseconds(), proofMax))
}

func stateByte(s discovery.ViewState) byte {
	switch s {
	case discovery.ViewLit:
		return 1
	case discovery.ViewDark:
		return 2
	}
	return 3 // blind has no vote: the safe word for anything else
}

func byteState(b byte) (discovery.ViewState, bool) {
	switch b {
	case 1:
		return discovery.ViewLit, true
	case 2:
		return discovery.ViewDark, true
	case 3:
		return discovery.ViewBlind, true
	}
	return "", false
}

// printable keeps control characters of a peer out of logs and terminals.
func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
