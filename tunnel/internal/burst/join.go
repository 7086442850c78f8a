package burst

import (
	"bytes"
	"encoding/binary"
)

const (
	maxOpen    = 8  // flows that grow at a time
	maxPackets = 64 // of a burst (UDP_MAX_SEGMENTS)
	maxBytes   = 1<<16 - 1
	maxHeaders = 60 + 60 // IPv4 and TCP with all options; IPv6 with TCP is less
)

// Joiner joins packets of a flow that follow each other into bursts. It keeps
// references to the packets until the next Join.
type Joiner struct {
	// UDP tells whether the TUN takes bursts of UDP (Linux 6.2).
	UDP bool

	bursts []bursting
	open   [maxOpen]int // places in bursts
	opened int
	parts  [][]byte // payloads of a burst, for the caller
}

// bursting is one packet, or a growing burst.
type bursting struct {
	packet
	first    int   // index of its first packet
	more     []int // indices of the others
	size     int   // bytes of IP packet
	verified bool  // the first packet's checksum
	ended    bool
	head     [HeaderLen + maxHeaders]byte // of a burst of several
}

// packet is what joining needs to know of one packet.
type packet struct {
	b        []byte
	ipLen    int
	headers  int // IP and transport
	protocol byte
	ports    uint32
	seq      uint32 // TCP: of the next byte
	payload  int
	joins    bool // may join others; else it only ends what its flow has open
	last     bool // nothing may follow it
}

// Join takes packets, each of which begins at offset in its place with at
// least [HeaderLen] bytes in front, and returns how many writes they make.
func (j *Joiner) Join(packets [][]byte, offset int) int {
	n := 0
	j.opened = 0
	for i, whole := range packets {
		p, flow := j.parse(whole[offset:])
		if flow && j.add(i, p) {
			continue
		}
		if n == len(j.bursts) {
			j.bursts = append(j.bursts, bursting{more: make([]int, 0, maxPackets)})
		}
		b := &j.bursts[n]
		b.packet, b.first, b.more, b.size, b.verified, b.ended = p, i, b.more[:0], len(p.b), false, p.last
		if flow && p.joins && !p.last && j.opened < maxOpen {
			j.open[j.opened] = n
			j.opened++
		}
		n++
	}
	return n
}

// add joins packet i to the open burst of its flow. If it does not fit, that
// burst is closed, so that packets of a flow stay in order.
func (j *Joiner) add(i int, p packet) bool {
	for k := range j.opened {
		b := &j.bursts[j.open[k]]
		if !b.sameFlow(p) {
			continue
		}
		if b.takes(p) {
			b.more = append(b.more, i)
			b.size += p.payload
			b.seq = p.seq
			b.ended = p.last || p.payload < b.payload || len(b.more)+1 == maxPackets
			if p.protocol == protoTCP {
				b.b[b.ipLen+13] |= p.b[p.ipLen+13] & flagPSH
			}
			if b.ended {
				j.shut(k)
			}
			return true
		}
		j.shut(k)
		return false
	}
	return false
}

func (j *Joiner) shut(k int) {
	j.opened--
	j.open[k] = j.open[j.opened]
}

func (b *bursting) sameFlow(p packet) bool {
	return b.ports == p.ports && b.protocol == p.protocol && b.b[0] == p.b[0] && bytes.Equal(addresses(b.b), addresses(p.b))
}

// takes tells whether p can follow in the burst.
func (b *bursting) takes(p packet) bool {
	if !p.joins || b.ended || p.payload > b.payload || b.size+p.payload > maxBytes || p.headers != b.headers {
		return false
	}
	if b.b[0]>>4 == 4 {
		// Type of service, flags, time to live.
		if b.b[1] != p.b[1] || b.b[6] != p.b[6] || b.b[8] != p.b[8] {
			return false
		}
	} else if !bytes.Equal(b.b[:4], p.b[:4]) || b.b[7] != p.b[7] {
		return false
	}
	if p.protocol == protoTCP {
		x, y := b.b[b.ipLen:b.headers], p.b[p.ipLen:p.headers]
		if b.seq != binary.BigEndian.Uint32(y[4:]) || !bytes.Equal(x[8:12], y[8:12]) || !bytes.Equal(x[20:], y[20:]) {
			return false // not adjacent, another acknowledgement, other options
		}
	}
	if !b.verified {
		if !b.intact() {
			b.ended = true
			return false
		}
		b.verified = true
	}
	return p.intact()
}

// intact verifies the transport checksum. PSH may have been set by joining,
// but the first packet is verified before that.
func (p *packet) intact() bool {
	above := p.b[p.ipLen:]
	if p.protocol == protoUDP && above[6] == 0 && above[7] == 0 {
		return false // it has none (RFC 768), and would get one
	}
	return fold(sum(above, pseudo(addresses(p.b), p.protocol, len(above)))) == 0xffff
}

// parse reads the headers. flow tells whether ports were found.
func (j *Joiner) parse(b []byte) (p packet, flow bool) {
	p.b = b
	if len(b) < 28 {
		return p, false
	}
	switch b[0] {
	case 0x45: // options do not join
		p.ipLen, p.protocol = 20, b[9]
		if int(binary.BigEndian.Uint16(b[2:])) != len(b) || b[6]&0xbf != 0 || b[7] != 0 {
			return p, false // padded, or a fragment
		}
	default:
		if b[0]>>4 != 6 || len(b) < 48 {
			return p, false
		}
		p.ipLen, p.protocol = 40, b[6]
		if int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 {
			return p, false
		}
	}
	above := b[p.ipLen:]
	switch {
	case p.protocol == protoTCP && len(above) >= 20:
		tcp := int(above[12]>>4) * 4
		if tcp < 20 || tcp > len(above) {
			break // of no use, but still in its place among the others
		}
		p.headers, p.payload = p.ipLen+tcp, len(above)-tcp
		p.seq = binary.BigEndian.Uint32(above[4:]) + uint32(p.payload)
		p.joins = p.payload > 0 && above[13]&^flagPSH == flagACK && above[12]&0x0f == 0
		p.last = above[13]&flagPSH != 0
	case p.protocol == protoUDP && j.UDP:
		p.headers, p.payload = p.ipLen+sizeUDP, len(above)-sizeUDP
		p.joins = p.payload > 0 && int(binary.BigEndian.Uint16(above[4:])) == len(above)
	default:
		return p, false
	}
	p.ports = binary.BigEndian.Uint32(above)
	return p, true
}

// Write is the i-th of what Join found, as parts that make one write in this
// order. They hold until the next call.
func (j *Joiner) Write(i int, packets [][]byte, offset int) [][]byte {
	b := &j.bursts[i]
	if len(b.more) == 0 {
		one := packets[b.first][offset-HeaderLen:]
		clear(one[:HeaderLen])
		j.parts = append(j.parts[:0], one)
		return j.parts
	}
	size := b.headers
	head := b.head[:HeaderLen+size]
	h := header{flags: needsChecksum, kind: kindUDP, headers: uint16(size), segment: uint16(b.payload), csumAt: uint16(b.ipLen), csumHere: 6}
	if b.protocol == protoTCP {
		h.csumHere, h.kind = 16, kindTCP4
		if b.b[0]>>4 == 6 {
			h.kind = kindTCP6
		}
	}
	h.write(head)
	ip := head[HeaderLen:]
	copy(ip, b.b[:size])
	if h.kind == kindTCP4 || b.b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(b.size))
		clear(ip[10:12])
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip[:b.ipLen], 0)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(b.size-40))
	}
	above := ip[b.ipLen:]
	if b.protocol == protoUDP {
		binary.BigEndian.PutUint16(above[4:], uint16(b.size-b.ipLen))
	}
	// The kernel adds the rest to the pseudo header's sum (CHECKSUM_PARTIAL).
	binary.BigEndian.PutUint16(above[h.csumHere:], fold(pseudo(addresses(ip), b.protocol, b.size-b.ipLen)))
	j.parts = append(j.parts[:0], head, b.b[size:])
	for _, k := range b.more {
		j.parts = append(j.parts, packets[k][offset+size:])
	}
	return j.parts
}
