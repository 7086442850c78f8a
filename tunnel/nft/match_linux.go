package nft

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A part is one word of a rule, as text and as what the kernel evaluates. Both
// are made in the same place, so that they cannot say different things.
type part struct {
	text  string
	exprs []expr.Any
	// A set the last expression looks into; its elements. nil: none.
	set  []nftables.SetElement
	kind nftables.SetDatatype
}

// reg is the register all parts work in; none needs a value of another.
const reg = unix.NFT_REG_1

func is(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: reg, Data: data}
}

// ifname matches the input ("iifname") or output ("oifname") interface.
func ifname(which string, not bool, name string) part {
	key, op, sign := expr.MetaKeyIIFNAME, expr.CmpOpEq, ""
	if which == "oifname" {
		key = expr.MetaKeyOIFNAME
	}
	if not {
		op, sign = expr.CmpOpNeq, "!= "
	}
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return part{text: fmt.Sprintf("%s %s%q", which, sign, name), exprs: []expr.Any{
		&expr.Meta{Key: key, Register: reg}, is(op, padded),
	}}
}

// v4 and v6 keep one family from being read as the other. One of them has to
// stand before any address.
func v4() part { return family("ipv4", unix.NFPROTO_IPV4) }
func v6() part { return family("ipv6", unix.NFPROTO_IPV6) }

// of is v4 or v6, as the address is.
func of(a netip.Addr) part {
	if a.Is4() {
		return v4()
	}
	return v6()
}

func family(name string, number byte) part {
	return part{text: "meta nfproto " + name, exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, is(expr.CmpOpEq, []byte{number}),
	}}
}

// field loads the source ("saddr") or destination ("daddr") address, as long as
// those of the family of a. Their places are in RFC 791, section 3.1, and RFC
// 8200, section 3.
func field(which string, a netip.Addr) (word string, load expr.Any) {
	off, size, word := uint32(12), uint32(4), "ip"
	if a.Is6() {
		off, size, word = 8, 16, "ip6"
	}
	if which == "daddr" {
		off += size
	}
	return word + " " + which, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: off, Len: size}
}

// addr matches the source ("saddr") or destination ("daddr") in a prefix.
func addr(which string, not bool, p netip.Prefix) part {
	op, sign := expr.CmpOpEq, ""
	if not {
		op, sign = expr.CmpOpNeq, "!= "
	}
	text := p.Masked().String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	word, load := field(which, p.Addr())
	size := p.Addr().BitLen() / 8
	return part{text: fmt.Sprintf("%s %s%s", word, sign, text), exprs: []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), 8*size), Xor: make([]byte, size)},
		is(op, p.Masked().Addr().AsSlice()),
	}}
}

// one is the prefix of a single address.
func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// sources matches a source address out of a list, all of one family.
func sources(list []netip.Addr) part {
	word, load := field("saddr", list[0])
	p := part{kind: nftables.TypeIPAddr, exprs: []expr.Any{load, &expr.Lookup{SourceRegister: reg}}}
	if list[0].Is6() {
		p.kind = nftables.TypeIP6Addr
	}
	words := make([]string, 0, len(list))
	for _, a := range sorted(list, netip.Addr.Compare) {
		words = append(words, a.String())
		p.set = append(p.set, nftables.SetElement{Key: a.AsSlice()})
	}
	p.text = word + " { " + strings.Join(words, ", ") + " }"
	return p
}

// proto matches the transport protocol.
func proto(name string) part {
	number := map[string]byte{"icmp": unix.IPPROTO_ICMP, "ipv6-icmp": unix.IPPROTO_ICMPV6, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[name]
	return part{text: "meta l4proto " + name, exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, is(expr.CmpOpEq, []byte{number}),
	}}
}

// echo matches an ICMP echo request (RFC 792), type 8.
func echo() part {
	return part{text: "icmp type echo-request", exprs: []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, is(expr.CmpOpEq, []byte{8}),
	}}
}

// icmp6 matches the ICMPv6 messages that a node must hear even when they belong
// to no connection that it knows (RFC 4890, section 4.4.1): destination
// unreachable, packet too big, time exceeded, parameter problem, echo request.
// The device has no neighbours, so none of neighbour discovery is among them.
func icmp6() part {
	return part{
		text: "icmpv6 type { 1, 2, 3, 4, 128 }", kind: nftables.TypeICMP6Type,
		set: []nftables.SetElement{{Key: []byte{1}}, {Key: []byte{2}}, {Key: []byte{3}}, {Key: []byte{4}}, {Key: []byte{128}}},
		exprs: []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Lookup{SourceRegister: reg},
		},
	}
}

// dport matches a destination port out of a list; TCP and UDP have it in the
// same place.
func dport(list []uint16) part {
	p := part{kind: nftables.TypeInetService, exprs: []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg},
	}}
	words := make([]string, 0, len(list))
	for _, n := range sorted(list, func(a, b uint16) int { return int(a) - int(b) }) {
		words = append(words, fmt.Sprint(n))
		p.set = append(p.set, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(n)})
	}
	p.text = "th dport { " + strings.Join(words, ", ") + " }"
	return p
}

// bits matches when any of the bits of a connection's word is set.
func bits(text string, key expr.CtKey, mask uint32) part {
	return part{text: text, exprs: []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		is(expr.CmpOpNeq, make([]byte, 4)),
	}}
}

// established matches packets of connections that were allowed before.
func established() part {
	return bits("ct state established,related", expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// translated matches connections whose destination the host translates: bit
// IPS_DST_NAT of nf_conntrack_common.h.
func translated() part { return bits("ct status dnat", expr.CtKeySTATUS, 1<<5) }

// syn matches the two packets that carry a maximum segment size: SYN set, RST
// not (RFC 9293, section 3.1: flags are in byte 13).
func syn() part {
	return part{text: "tcp flags syn / syn,rst", exprs: []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{0x06}, Xor: []byte{0}},
		is(expr.CmpOpEq, []byte{0x02}),
	}}
}

// maxSegment lowers the maximum segment size option (kind 2, RFC 9293 section
// 3.2); the kernel never raises one.
func maxSegment(size int) part {
	return part{text: fmt.Sprintf("tcp option maxseg size set %d", size), exprs: []expr.Any{
		&expr.Immediate{Register: reg, Data: binaryutil.BigEndian.PutUint16(uint16(size))}, setSegment,
	}}
}

// routeSegment lowers it to what the routes of the packet's two ends carry.
func routeSegment() part {
	return part{text: "tcp option maxseg size set rt mtu", exprs: []expr.Any{
		&expr.Rt{Register: reg, Key: expr.RtTCPMSS},
		// The route's figure is in the host's order.
		&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 2, Size: 2},
		setSegment,
	}}
}

var setSegment = &expr.Exthdr{SourceRegister: reg, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt}

func snat(to netip.Addr) part {
	return part{text: "snat ip to " + to.String(), exprs: []expr.Any{
		&expr.Immediate{Register: reg, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg},
	}}
}

// masquerade replaces the source by the address of the interface that the
// packet leaves by.
func masquerade() part { return part{text: "masquerade", exprs: []expr.Any{&expr.Masq{}}} }

func accept() part {
	return part{text: "accept", exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
}

// drop counts what it drops, so that an operator can see it.
func drop() part {
	return part{text: "counter drop", exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}}
}

func sorted[T any](list []T, cmp func(a, b T) int) []T {
	out := slices.Clone(list)
	slices.SortFunc(out, cmp)
	return slices.CompactFunc(out, func(a, b T) bool { return cmp(a, b) == 0 })
}
