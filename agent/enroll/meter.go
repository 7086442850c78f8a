package enroll

// Bounds on what the other end may send after its ClientHello: two frames, in
// records as TLS cuts them, in segments as the net does. Each record and each
// read costs work.
const (
	maxBytes   = 2*maxFrame + 8<<10
	maxRecords = 64
	maxReads   = 512 // by guest.Read
)

// meter counts bytes and records (RFC 8446, section 5.1) on their way to TLS.
type meter struct {
	bytes, records int
	skip           int     // to the next header
	head           [5]byte // a header so far
	have           int
}

// pass reports whether the bounds hold still.
func (m *meter) pass(b []byte) bool {
	m.bytes += len(b)
	for len(b) > 0 && m.records <= maxRecords {
		if n := min(m.skip, len(b)); n > 0 {
			m.skip -= n
			b = b[n:]
			continue
		}
		n := copy(m.head[m.have:], b)
		b = b[n:]
		if m.have += n; m.have == len(m.head) {
			m.have = 0
			m.records++
			m.skip = int(m.head[3])<<8 | int(m.head[4])
		}
	}
	return m.bytes <= maxBytes && m.records <= maxRecords
}
