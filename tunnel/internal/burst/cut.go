package burst

import "encoding/binary"

// Cutter cuts what was read from a TUN into packets. The zero value is empty.
type Cutter struct {
	in     []byte // from the IP header on
	rest   []byte // what was not handed out yet: payload of a burst, or all of a single packet
	single bool

	// Of a burst.
	h        header // h.headers is ours, not the kernel's
	ipLen    int
	six      bool // IPv6
	protocol byte
	n        uint16 // segments handed out
}

// Empty reports whether everything was handed out.
func (c *Cutter) Empty() bool { return len(c.rest) == 0 }

// Open begins with b: a virtio header and what it describes. b must not change
// until the cutter is empty, and what was in it before is forgotten.
func (c *Cutter) Open(b []byte) error {
	c.rest = nil
	if len(b) < HeaderLen+1 {
		return errForm
	}
	c.h, c.in = readHeader(b), b[HeaderLen:]
	if c.h.kind == kindNone {
		return c.openSingle()
	}
	return c.openBurst()
}

// OpenTCP begins with a TCP packet whose checksum is left to us, which may
// hold more than one segment of payload, and has no IP options or extension
// headers; see Open.
func (c *Cutter) OpenTCP(packet []byte, segment int) error {
	c.rest = nil
	if len(packet) < 40 || segment > 1<<16-1 {
		return errForm
	}
	c.h, c.in = header{flags: needsChecksum, kind: kindTCP4, segment: uint16(segment), csumAt: 20, csumHere: 16}, packet
	if packet[0]>>4 == 6 {
		c.h.kind, c.h.csumAt = kindTCP6, 40
	}
	tcp := packet[c.h.csumAt:]
	if len(tcp) < 20 {
		return errForm
	}
	if len(tcp)-int(tcp[12]>>4)*4 <= segment {
		binary.BigEndian.PutUint16(tcp[16:], fold(pseudo(addresses(packet), protoTCP, len(tcp))))
		return c.openSingle()
	}
	return c.openBurst()
}

// openSingle fills in the checksum that the kernel left to us: what stands in
// its place is the sum of the pseudo header.
func (c *Cutter) openSingle() error {
	if c.h.flags&needsChecksum != 0 {
		at, start := int(c.h.csumAt)+int(c.h.csumHere), int(c.h.csumAt)
		if at+2 > len(c.in) {
			return errForm
		}
		finish(c.in[start:], int(c.h.csumHere), sum(c.in[start:], 0))
	}
	c.single, c.rest = true, c.in
	return nil
}

// finish writes the checksum that sum s makes, in which the place at has been
// counted. UDP says 0xffff for 0 (RFC 768); to TCP both are the same.
func finish(b []byte, at int, s uint64) {
	v := ^fold(s)
	if v == 0 {
		v = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], v)
}

func (c *Cutter) openBurst() error {
	if c.in[0]>>4 != 4 && c.in[0]>>4 != 6 {
		return errForm
	}
	c.single, c.six, c.ipLen, c.n = false, c.in[0]>>4 == 6, int(c.h.csumAt), 0
	least := 20
	if c.six {
		least = 40
	}
	// hdr_len is not to be relied upon: for forwarded packets the kernel may
	// count some payload in.
	headers := c.ipLen + sizeUDP
	switch {
	case c.h.kind == kindUDP && c.h.csumHere == 6:
		c.protocol = protoUDP
	case c.h.kind == kindTCP4 && !c.six && c.h.csumHere == 16, c.h.kind == kindTCP6 && c.six && c.h.csumHere == 16:
		c.protocol = protoTCP
		if len(c.in) < c.ipLen+20 {
			return errForm
		}
		tcp := int(c.in[c.ipLen+12]>>4) * 4
		if tcp < 20 {
			return errForm
		}
		headers = c.ipLen + tcp
	default:
		return errForm
	}
	if c.ipLen < least || headers >= len(c.in) || c.h.segment == 0 {
		return errForm
	}
	c.h.headers = uint16(headers)
	clear(c.in[c.ipLen+int(c.h.csumHere):][:2])
	c.rest = c.in[headers:]
	return nil
}

// Emit hands out packets, as far as packets reach: each begins at offset in
// its place, and its size goes to sizes. It returns how many. A packet that is
// larger than its place is cut off there; wireguard-go's are 64 kB.
func (c *Cutter) Emit(packets [][]byte, sizes []int, offset int) (n int) {
	for ; n < len(packets) && len(c.rest) > 0; n++ {
		to := packets[n][offset:]
		if c.single {
			sizes[n], c.rest = copy(to, c.rest), nil
			continue
		}
		payload := c.rest[:min(int(c.h.segment), len(c.rest))]
		if int(c.h.headers)+len(payload) > len(to) {
			c.rest = nil
			return n
		}
		c.rest = c.rest[len(payload):]
		sizes[n] = c.segment(to, payload)
	}
	return n
}

// segment writes one packet of a burst.
func (c *Cutter) segment(to, payload []byte) int {
	headers, size := int(c.h.headers), int(c.h.headers)+len(payload)
	to = to[:size]
	copy(to, c.in[:headers])
	copy(to[headers:], payload)
	if c.six {
		binary.BigEndian.PutUint16(to[4:], uint16(size-40))
	} else {
		binary.BigEndian.PutUint16(to[2:], uint16(size))
		binary.BigEndian.PutUint16(to[4:], binary.BigEndian.Uint16(to[4:])+c.n)
		clear(to[10:12])
		binary.BigEndian.PutUint16(to[10:], ^fold(sum(to[:c.ipLen], 0)))
	}
	above := to[c.ipLen:]
	if c.protocol == protoTCP {
		seq := binary.BigEndian.Uint32(above[4:]) + uint32(c.n)*uint32(c.h.segment)
		binary.BigEndian.PutUint32(above[4:], seq)
		if len(c.rest) > 0 {
			above[13] &^= flagFIN | flagPSH // they belong to the last
		}
	} else {
		binary.BigEndian.PutUint16(above[4:], uint16(len(above)))
	}
	finish(above, int(c.h.csumHere), sum(above, pseudo(addresses(to), c.protocol, len(above))))
	c.n++
	return size
}
