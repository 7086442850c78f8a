package gossip

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
)

// sieve lets through to memberlist what the judge lets it hear, and takes our
// own frames out on the way.
type sieve struct {
	*judge
	count *counters
	// frame takes a frame of ours, and held what a push/pull tells of notices.
	frame func(b []byte, from netip.Addr)
	held  func(told []byte, from netip.Addr)
}

// packet returns the messages of a datagram that memberlist may hear. Records
// come first: they may vouch for what stands before them in the datagram.
func (s *sieve) packet(b []byte, from netip.Addr) [][]byte {
	parts, why := openPacket(b)
	if why != "" {
		s.count.add(why, 1)
		return nil
	}
	for _, p := range parts {
		if p[0] == msgUser {
			s.frame(p[1:], from)
		}
	}
	var pass [][]byte
	for _, p := range parts {
		if p[0] == msgUser {
			continue
		}
		if out := s.message(p, from); out != nil {
			pass = append(pass, out)
		}
	}
	return pass
}

// message returns one message in the form that was judged, or nil.
func (s *sieve) message(p []byte, from netip.Addr) []byte {
	m, err := parseMessage(p)
	if err != nil {
		s.count.add(causeMalformed, 1)
		return nil
	}
	if why := s.hear(&m, from); why != "" {
		s.count.add(why, 1)
		return nil
	}
	return m.bytes()
}

// Streams carry one message each way. This marks those that are ours and not
// memberlist's; it is none of its types, and not its label mark (244).
const streamMark = 0xdb

var (
	errRefused  = errors.New("stream refused")
	errOversize = errors.New("stream too large")
)

// stream reads the one memberlist message of a stream to its end and returns
// what memberlist may read instead. r must be bounded and have a deadline.
func (s *sieve) stream(kind byte, r byteSource, from netip.Addr) ([]byte, cause) {
	switch kind {
	case msgPushPull:
		return s.pushPull(r, from)
	case msgPing, msgAck, msgErr:
		m, err := readMessage(r, kind)
		if err != nil {
			return nil, streamCause(err)
		}
		if kind == msgPing {
			if why := s.hear(&m, from); why != "" {
				return nil, why
			}
		}
		return m.bytes(), ""
	case msgCompress, msgEncrypt:
		return nil, causeCompressed
	}
	return nil, causeMalformed
}

func streamCause(err error) cause {
	if errors.Is(err, errOversize) {
		return causeOversize
	}
	return causeMalformed
}

// pushPull reads a full exchange. The records in it are merged before anything
// else, so that memberlist is told of nodes that are known; it gets the states
// that pass, under a header that counts those, and no user state.
func (s *sieve) pushPull(r byteSource, from netip.Addr) ([]byte, cause) {
	head, err := readMessage(r, msgPushPull)
	if err != nil {
		return nil, streamCause(err)
	}
	if head.Nodes > maxNodes || head.UserStateLen > maxStream {
		return nil, causeOversize
	}
	var states []message
	for range head.Nodes {
		m, err := readMessage(r, pushNode)
		if err != nil {
			return nil, streamCause(err)
		}
		states = append(states, m)
	}
	user, err := readSome(r, int(head.UserStateLen))
	if err != nil {
		return nil, streamCause(err)
	}
	if len(user) > 0 {
		s.frame(user, from)
	}
	// A seed may be unknown until its records are read; a revoked node stays so.
	if _, ok := s.owner(from); !ok {
		return nil, causeBadSource
	}
	if head.Notices != nil {
		s.held(head.Notices, from)
	}
	var body []byte
	kept := uint32(0)
	for i := range states {
		if why := s.hearState(&states[i], from); why != "" {
			s.count.add(why, 1)
			continue
		}
		body = states[i].pack(body)
		kept++
	}
	out := message{Type: msgPushPull, Nodes: kept, Join: head.Join}
	return append(out.bytes(), body...), ""
}

// readSome reads exactly n bytes, and takes memory only for bytes that came.
func readSome(r io.Reader, n int) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.CopyN(&b, r, int64(n))
	if err != nil {
		if errors.Is(err, io.EOF) && got < int64(n) {
			return nil, errMalformed
		}
		return nil, err
	}
	return b.Bytes(), nil
}

// bounded is a stream's reader that fails with errOversize after maxStream
// bytes.
func bounded(r io.Reader) *bufio.Reader {
	return bufio.NewReader(&capped{r: r, left: maxStream})
}

type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errOversize
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
