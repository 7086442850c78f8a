package gossip

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Our own streams carry one frame each way behind the mark and its length. A
// want is answered with the items asked for, a fetch with notices, everything
// else, and what a version does not know, with no items.

// Asking is bounded for each peer: an answer may be large.
const (
	askBurst = 16
	askRate  = 4 // per second
)

// call sends a frame to a node and returns its answer.
func (t *transport) call(addr netip.Addr, f []byte) ([]byte, error) {
	conn, err := t.dial(netip.AddrPortFrom(addr, t.g.opt.Port), dialTime)
	if err != nil {
		return nil, err
	}
	defer conn.end()
	if err := writeFrame(conn, f); err != nil {
		return nil, fmt.Errorf("send frame: %w", err)
	}
	r := bounded(conn.Conn)
	if mark, err := r.ReadByte(); err != nil || mark != streamMark {
		return nil, fmt.Errorf("read answer: %w", errMalformed)
	}
	b, err := readFrame(r)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return b, nil
}

// answer serves one call, whose mark was read.
func (t *transport) answer(conn *stream, r byteSource, from netip.Addr) {
	f, err := readFrame(r)
	if err != nil {
		t.g.count.add(streamCause(err), 1)
		return
	}
	kind, body, why := openFrame(t.g.tag, f)
	if why == "" && !t.mayAsk(from) {
		why = causeRate
	}
	if why != "" {
		t.g.count.add(why, 1)
		return
	}
	out := frame(t.g.tag, kindItems)
	switch kind {
	case kindItems, kindNotice:
		t.g.take(f, from)
	case kindFetch:
		names, err := decodeNames(body)
		if err != nil {
			t.g.count.add(causeMalformed, 1)
			return
		}
		if t.g.exchanges() {
			t.g.count.add(countFetchesServed, 1)
			list, more := t.g.read().lacking(names)
			out = appendNotices(frame(t.g.tag, kindNotices), list, more)
		}
	case kindWant:
		ids, err := decodeWant(body)
		if err != nil {
			t.g.count.add(causeMalformed, 1)
			return
		}
		t.g.count.add(countWantsServed, 1)
		for _, it := range t.g.book.items(ids, true) {
			out = appendItem(out, it)
		}
	}
	if err := writeFrame(conn, out); err != nil {
		t.g.log.Debug("answer not sent", "peer", from, "err", err)
	}
}

func (t *transport) mayAsk(from netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.askers == nil || len(t.askers) > maxNodes {
		t.askers = map[netip.Addr]*bucket{}
	}
	b := t.askers[from]
	if b == nil {
		b = &bucket{}
		t.askers[from] = b
	}
	return b.take(time.Now(), askBurst, askRate)
}

func writeFrame(w io.Writer, f []byte) error {
	b := binary.BigEndian.AppendUint32([]byte{streamMark}, uint32(len(f)))
	_, err := w.Write(append(b, f...))
	return err
}

// readFrame reads what follows the mark.
func readFrame(r byteSource) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, noEOF(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxStream {
		return nil, errOversize
	}
	return readSome(r, int(n))
}
