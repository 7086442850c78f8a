package conflict

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// value is what a register holds, as far as it is known.
type value struct {
	b   []byte   // nil: not known
	not [][]byte // what it certainly is not
}

func known(b ...byte) value { return value{b: b} }

func native(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

func padded(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// name is the interface's name as rules compare it.
func (i iface) value() value {
	if i.name != "" {
		return known(padded(i.name)...)
	}
	var v value
	for _, n := range i.not {
		v.not = append(v.not, padded(n))
	}
	return v
}

func (i iface) number() value {
	if i.index == 0 {
		return value{}
	}
	return known(native(uint32(i.index))...)
}

func (p *packet) meta(key expr.MetaKey) value {
	switch key {
	case expr.MetaKeyIIFNAME:
		return p.in.value()
	case expr.MetaKeyOIFNAME:
		return p.out.value()
	case expr.MetaKeyIIF:
		return p.in.number()
	case expr.MetaKeyOIF:
		return p.out.number()
	case expr.MetaKeyL4PROTO:
		return known(p.proto)
	case expr.MetaKeyNFPROTO:
		return known(familyIPv4...)
	case expr.MetaKeyPROTOCOL:
		return known(protocolIPv4...)
	}
	return value{}
}

// load reads the packet's headers (RFC 791, section 3.1; the port is where TCP
// and UDP both have it). A read that touches anything that is not known yields
// nothing.
func (p *packet) load(e *expr.Payload) value {
	var header [20]byte
	var have [20]bool
	put := func(at int, b []byte) {
		copy(header[at:], b)
		for i := range b {
			have[at+i] = true
		}
	}
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		put(0, []byte{0x45})
		put(9, []byte{p.proto})
		if p.src.Is4() {
			put(12, p.src.AsSlice())
		}
		if p.dst.Is4() {
			put(16, p.dst.AsSlice())
		}
	case expr.PayloadBaseTransportHeader:
		if p.dport != 0 {
			put(2, binary.BigEndian.AppendUint16(nil, p.dport))
		}
	default:
		return value{}
	}
	end := int(e.Offset + e.Len)
	if e.OperationType == expr.PayloadWrite || end > len(header) {
		return value{}
	}
	for i := int(e.Offset); i < end; i++ {
		if !have[i] {
			return value{}
		}
	}
	return known(header[e.Offset:end]...)
}

// masked is the value after and with a mask and exclusive or.
func (v value) masked(e *expr.Bitwise) value {
	if v.b == nil || len(v.b) != len(e.Mask) || len(e.Xor) != len(e.Mask) || e.SourceRegister == 0 {
		return value{}
	}
	out := make([]byte, len(v.b))
	for i := range out {
		out[i] = v.b[i]&e.Mask[i] ^ e.Xor[i]
	}
	return known(out...)
}

// compare is a comparison with a constant. A shorter constant is compared with
// the beginning: "eth*".
func (v value) compare(e *expr.Cmp) answer {
	if v.b == nil {
		for _, n := range v.not {
			if bytes.Equal(padded(string(bytes.TrimRight(e.Data, "\x00"))), n) && len(e.Data) > len(bytes.TrimRight(n, "\x00")) {
				return truth(e.Op == expr.CmpOpNeq)
			}
		}
		return maybe
	}
	if len(e.Data) > len(v.b) {
		return maybe
	}
	c := bytes.Compare(v.b[:len(e.Data)], e.Data)
	switch e.Op {
	case expr.CmpOpEq:
		return truth(c == 0)
	case expr.CmpOpNeq:
		return truth(c != 0)
	case expr.CmpOpLt:
		return truth(c < 0)
	case expr.CmpOpLte:
		return truth(c <= 0)
	case expr.CmpOpGt:
		return truth(c > 0)
	case expr.CmpOpGte:
		return truth(c >= 0)
	}
	return maybe
}

// lookup looks for the value in a set, or in a map of verdicts.
func (v value) lookup(s *set, e *expr.Lookup) (answer, *expr.Verdict) {
	if v.b == nil || !s.known {
		return maybe, nil
	}
	var at *nftables.SetElement
	for i := range s.elements {
		el := &s.elements[i]
		c := bytes.Compare(el.Key, v.b)
		switch {
		case !s.interval && c == 0:
			at = el
		case s.interval && c <= 0 && el.IntervalEnd:
			at = nil
		case s.interval && c <= 0:
			at = el
		}
	}
	in := truth(at != nil)
	if e.Invert {
		return in.not(), nil
	}
	if at == nil {
		return no, nil
	}
	return in, at.VerdictData
}

// match is an extension of iptables.
func (p *packet) match(e *expr.Match) answer {
	switch info := e.Info.(type) {
	case *xt.Comment:
		return yes
	case *xt.Tcp:
		if p.proto != unix.IPPROTO_TCP {
			return no
		}
		m := p.port(info.DstPorts, info.InvFlags&xt.TcpInvDestPorts != 0)
		if info.SrcPorts != [2]uint16{0, 65535} || info.Option != 0 || info.FlagsMask != 0 {
			m = m.and(maybe)
		}
		return m
	case *xt.Udp:
		if p.proto != unix.IPPROTO_UDP {
			return no
		}
		m := p.port(info.DstPorts, info.InvFlags&xt.UdpInvDestPorts != 0)
		if info.SrcPorts != [2]uint16{0, 65535} {
			m = m.and(maybe)
		}
		return m
	case *xt.ConntrackMtinfo1:
		return state(info.MatchFlags, info.InvertFlags, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return state(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return state(info.MatchFlags, info.InvertFlags, info.StateMask)
	}
	return maybe
}

func (p *packet) port(span [2]uint16, inverted bool) answer {
	m := maybe
	switch {
	case span == [2]uint16{0, 65535}:
		m = yes
	case p.dport != 0:
		m = truth(span[0] <= p.dport && p.dport <= span[1])
	}
	if inverted {
		return m.not()
	}
	return m
}

// state is a condition on the connection's state, of which that of a new one is
// bit 3 (XT_CONNTRACK_STATE_BIT of xt_conntrack.h).
func state(flags, inverted, mask uint16) answer {
	if flags&^uint16(xt.ConntrackStateAlias) != uint16(xt.ConntrackState) {
		return maybe
	}
	m := truth(mask&(1<<3) != 0)
	if inverted&uint16(xt.ConntrackState) != 0 {
		return m.not()
	}
	return m
}
