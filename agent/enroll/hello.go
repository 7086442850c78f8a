package enroll

import (
	"bytes"
	"encoding/binary"
	"sync"
)

const (
	// maxHello bounds a ClientHello with its record header. Ours has 1.6 KiB,
	// most of it a post-quantum key.
	maxHello = 4 << 10
	// maxHelloReads is above what ours needs in the smallest segments in use
	// (536 bytes), and minHelloRead is below those; the first may be smaller.
	maxHelloReads = 5
	minHelloRead  = 256
)

// helloBuffers hold what strangers say before there is any TLS.
var helloBuffers = sync.Pool{New: func() any { return new([maxHello]byte) }}

// readHello reads the whole ClientHello and checks that it is one of ours,
// before anything is computed or set up for it. dropHello must follow.
func (g *guest) readHello(streams bool) error {
	g.hello = helloBuffers.Get().(*[maxHello]byte)
	buf, n := g.hello[:], 0
	for reads := range maxHelloReads {
		m, err := g.receive(buf[n:])
		if err != nil {
			return err
		}
		n += m
		whole, why := checkHello(buf[:n], streams)
		if why != countNone {
			return g.fail(why)
		}
		if whole {
			g.unread = buf[:n]
			return nil
		}
		if n < reads*minHelloRead {
			break
		}
	}
	return g.fail(countDribble)
}

// replay hands the hello to TLS.
func (g *guest) replay(b []byte) int {
	n := copy(b, g.unread)
	if g.unread = g.unread[n:]; len(g.unread) == 0 {
		g.dropHello()
	}
	return n
}

// dropHello gives the buffer back.
func (g *guest) dropHello() {
	if g.hello != nil {
		helloBuffers.Put(g.hello)
		g.hello, g.unread = nil, nil
	}
}

// checkHello looks at the first bytes of a connection: a TLS record that holds
// one whole ClientHello (RFC 8446, sections 4 and 5.1) with our protocol in
// it, or that of streams. It refuses as early as the bytes allow.
func checkHello(b []byte, streams bool) (whole bool, why count) {
	const handshake, clientHello, headers = 22, 1, 5 + 4
	if len(b) > 0 && b[0] != handshake || len(b) > 1 && b[1] != 3 || len(b) > 5 && b[5] != clientHello {
		return false, countNotTLS
	}
	if len(b) < 5 {
		return false, countNone
	}
	size := 5 + int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case size > maxHello:
		return false, countOversized
	case size < headers:
		return false, countNotTLS
	case len(b) >= headers && headers+int(b[6])<<16+int(binary.BigEndian.Uint16(b[7:])) != size:
		return false, countNotTLS // a part of one, or more than one
	case len(b) < size:
		return false, countNone
	case !bytes.Contains(b[headers:size], []byte(protoALPN)) && !(streams && bytes.Contains(b[headers:size], []byte(StreamALPN))):
		return false, countOtherProtocol
	}
	return true, countNone
}
