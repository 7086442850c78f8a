package gossip

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
)

// Message types of memberlist v0.7.0 (net.go there; the numbers are its wire
// protocol).
const (
	msgPing         = 0
	msgIndirectPing = 1
	msgAck          = 2
	msgSuspect      = 3
	msgAlive        = 4
	msgDead         = 5
	msgPushPull     = 6
	msgCompound     = 7
	msgUser         = 8
	msgCompress     = 9
	msgEncrypt      = 10
	msgNack         = 11
	msgCRC          = 12
	msgErr          = 13
)

// States of a node in a push/pull (memberlist state.go).
const (
	peerAlive = iota
	peerSuspect
	peerDead
	peerLeft
)

// maxFields bounds a message's map: memberlist has at most 8, the rest is room
// for what a later version adds and this one skips.
const maxFields = 15

// message is any message of memberlist, with the union of all fields.
type message struct {
	Type        byte
	SeqNo       uint32
	Node, From  string
	Incarnation uint32
	Addr, Meta  []byte // Addr also stands for the Target of an indirect ping
	Port        uint16
	Vsn         []byte
	State       uint8
	Nack        bool
	Payload     []byte
	Error       string
	SourceAddr  []byte
	SourcePort  uint16
	SourceNode  string

	Nodes        uint32
	UserStateLen uint32
	Join         bool
	Notices      []byte // ours; see added
}

// slot ties a field's name on the wire to its place: a *uint8, *uint16,
// *uint32, *bool, *string or *[]byte.
type slot struct {
	name string
	at   any
}

// pushNode is no type of memberlist's: one node's state inside a push/pull.
const pushNode = 0xff

// slots lists the fields of the message's type; nil for a type that has none.
func (m *message) slots() []slot {
	switch m.Type {
	case msgPing:
		return []slot{
			{"SeqNo", &m.SeqNo},
			{"Node", &m.Node},
			{"SourceAddr", &m.SourceAddr},
			{"SourcePort", &m.SourcePort},
			{"SourceNode", &m.SourceNode},
		}
	case msgIndirectPing:
		return []slot{
			{"SeqNo", &m.SeqNo},
			{"Target", &m.Addr},
			{"Port", &m.Port},
			{"Node", &m.Node},
			{"Nack", &m.Nack},
			{"SourceAddr", &m.SourceAddr},
			{"SourcePort", &m.SourcePort},
			{"SourceNode", &m.SourceNode},
		}
	case msgAck:
		return []slot{{"SeqNo", &m.SeqNo}, {"Payload", &m.Payload}}
	case msgNack:
		return []slot{{"SeqNo", &m.SeqNo}}
	case msgSuspect, msgDead:
		return []slot{{"Incarnation", &m.Incarnation}, {"Node", &m.Node}, {"From", &m.From}}
	case msgAlive:
		return []slot{
			{"Incarnation", &m.Incarnation},
			{"Node", &m.Node},
			{"Addr", &m.Addr},
			{"Port", &m.Port},
			{"Meta", &m.Meta},
			{"Vsn", &m.Vsn},
		}
	case pushNode:
		return []slot{
			{"Name", &m.Node},
			{"Addr", &m.Addr},
			{"Port", &m.Port},
			{"Meta", &m.Meta},
			{"Incarnation", &m.Incarnation},
			{"State", &m.State},
			{"Vsn", &m.Vsn},
		}
	case msgPushPull:
		return []slot{{"Nodes", &m.Nodes}, {"UserStateLen", &m.UserStateLen}, {"Join", &m.Join}}
	case msgErr:
		return []slot{{"Error", &m.Error}}
	}
	return nil
}

// added lists the fields that our transport adds to memberlist's own, and takes
// out again: which notices the sender of a push/pull holds. A version that does
// not know one skips it.
func (m *message) added() []slot {
	if m.Type == msgPushPull {
		return []slot{{"Notices", &m.Notices}}
	}
	return nil
}

// withNotices adds to a push/pull that memberlist wrote what is held of notices;
// anything else stays as it is.
func withNotices(b, told []byte) []byte {
	if len(told) == 0 || len(b) < 2 || b[0] != msgPushPull || b[1]&0xf0 != 0x80 || b[1]&0x0f >= maxFields {
		return b
	}
	out := make([]byte, 0, len(b)+len(told)+16)
	out = packRaw(packRaw(append(out, b[0], b[1]+1), "Notices"), string(told))
	return append(out, b[2:]...)
}

// maxRaw bounds one string or byte field; memberlist's largest is its meta.
const maxRaw = 512

// readMessage reads the fields of a message whose type is known. Every known
// field may come once; unknown scalar ones are skipped.
func readMessage(r byteSource, kind byte) (message, error) {
	m := message{Type: kind}
	slots := m.slots()
	if slots == nil {
		return message{}, errMalformed
	}
	slots = append(slots, m.added()...)
	u := unpacker{r}
	n, err := u.mapLen(maxFields)
	if err != nil {
		return message{}, noEOF(err)
	}
	seen := 0
	for range n {
		key, err := u.key()
		if err != nil {
			return message{}, noEOF(err)
		}
		v, err := u.scalar(maxRaw)
		if err != nil {
			return message{}, noEOF(err)
		}
		i := slices.IndexFunc(slots, func(s slot) bool { return s.name == key })
		if i < 0 {
			continue
		}
		if seen&(1<<i) != 0 || !store(slots[i].at, v) {
			return message{}, errMalformed
		}
		seen |= 1 << i
	}
	return m, nil
}

// noEOF turns the end of input in the middle of a message into what it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errMalformed
	}
	return err
}

// store puts a scalar into its place if it has the right type and range.
func store(at, v any) bool {
	switch v := v.(type) {
	case uint64:
		switch p := at.(type) {
		case *uint8:
			*p = uint8(v)
			return uint64(*p) == v
		case *uint16:
			*p = uint16(v)
			return uint64(*p) == v
		case *uint32:
			*p = uint32(v)
			return uint64(*p) == v
		}
	case bool:
		if p, ok := at.(*bool); ok {
			*p = v
			return true
		}
	case []byte:
		switch p := at.(type) {
		case *string:
			*p = string(v)
			return printable(*p)
		case *[]byte:
			*p = v
			return true
		}
	}
	return false
}

// parseMessage reads one whole message, type byte first.
func parseMessage(b []byte) (message, error) {
	if len(b) == 0 {
		return message{}, errMalformed
	}
	r := bytes.NewReader(b[1:])
	m, err := readMessage(r, b[0])
	if err != nil || r.Len() != 0 {
		return message{}, errMalformed
	}
	return m, nil
}

// pack appends the fields of the message, without its type byte.
func (m *message) pack(b []byte) []byte {
	slots := m.slots()
	b = packMap(b, len(slots))
	for _, s := range slots {
		b = packRaw(b, s.name)
		switch p := s.at.(type) {
		case *uint8:
			b = packUint(b, uint64(*p))
		case *uint16:
			b = packUint(b, uint64(*p))
		case *uint32:
			b = packUint(b, uint64(*p))
		case *bool:
			b = packBool(b, *p)
		case *string:
			b = packRaw(b, *p)
		case *[]byte:
			b = packRaw(b, string(*p))
		}
	}
	return b
}

// bytes is the whole message as memberlist reads it.
func (m *message) bytes() []byte { return m.pack([]byte{m.Type}) }

// addr is Addr as an address.
func (m *message) addr() (netip.Addr, bool) { return addrOf(m.Addr) }

func addrOf(b []byte) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}
