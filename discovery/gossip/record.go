package gossip

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"drawbridge/discovery"
)

// Bounds of a record. They hold for what is announced here and for what is
// heard from others.
const (
	maxEndpoints = 8
	maxSeen      = 4
	maxLocal     = 8
	maxDirect    = 60 // 4 bytes each: an entry of the tail has at most 255
	maxStreams   = 4
	maxNames     = 2
	maxServices  = 64
	maxName      = 63 // of a service: a DNS label (RFC 1035, section 2.3.4)
	maxVersion   = 64
	maxENI       = 64
	maxExtension = 512 // what came after version 1; see extension.go
	maxCapacity  = math.MaxInt32
	maxSigned    = 8 << 10 // a whole signed record; the fields above stay below 6 KiB

	recordVersion = 1
	idLen         = 16 // bytes of a NodeID
	flagDraining  = 1
)

// digest names a certificate, a chain, a record body or a notice: the first 8
// bytes of its SHA-256. It only tells versions apart; nothing is trusted because
// of it.
type digest [8]byte

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:len(digest{})])
}

// wholeOf names a chain. The lengths keep two chains with the same bytes apart.
func wholeOf(chain [][]byte) digest {
	var b []byte
	for _, cert := range chain {
		b = appendBlock(b, cert)
	}
	return digestOf(b)
}

// record is what a node signs.
type record struct {
	ID  discovery.NodeID
	Seq uint64 // grows with every change; never 0
	// Floor is the node's own memberlist incarnation when it signed. Nobody
	// believes an incarnation far above it (see judge.go).
	Floor uint32
	Leaf  digest // of the newest own certificate
	// Whole is the digest of the whole newest chain: an issuer that was
	// certified again changes it and not the leaf. Zero: an older version.
	Whole digest
	discovery.Announcement
}

// encodeRecord is the one encoding of a record's body, or an error naming the
// bound that an own announcement breaks.
func encodeRecord(r record) ([]byte, error) {
	if err := checkAnnouncement(r.Announcement); err != nil {
		return nil, err
	}
	id, ok := rawID(r.ID)
	if !ok {
		return nil, fmt.Errorf("encode record: bad node id %q", r.ID)
	}
	b := append([]byte{recordVersion}, id[:]...)
	b = binary.AppendUvarint(b, r.Seq)
	b = binary.AppendUvarint(b, uint64(r.Floor))
	b = append(b, r.Leaf[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Boot)
	var flags byte
	if r.Draining {
		flags |= flagDraining
	}
	b = append(b, flags, byte(len(r.Endpoints)))
	for _, e := range r.Endpoints {
		b = appendAddrPort(b, e)
	}
	b = append(b, byte(len(r.Services)))
	for _, s := range r.Services {
		b = appendText(b, s.Name)
		b = binary.BigEndian.AppendUint16(b, s.Port)
		b = append(b, checkCode(s.Check))
		b = binary.AppendUvarint(b, uint64(s.Capacity))
	}
	b = appendText(b, r.Version)
	b = appendText(b, r.ENI)
	return appendExtension(b, &r), nil
}

// decodeRecord reads a body. Flags and a tail that a newer version may add are
// ignored; the signature covers them all the same.
func decodeRecord(b []byte) (record, error) {
	rd := &reader{b: b}
	var r record
	if rd.u8() != recordVersion {
		return record{}, errMalformed
	}
	r.ID = discovery.NodeID(hex.EncodeToString(rd.take(idLen)))
	r.Seq = rd.uvarint(math.MaxUint64)
	r.Floor = uint32(rd.uvarint(maxIncarnation))
	copy(r.Leaf[:], rd.take(len(r.Leaf)))
	r.Boot = rd.u64()
	r.Draining = rd.u8()&flagDraining != 0
	for range rd.count(maxEndpoints) {
		r.Endpoints = append(r.Endpoints, rd.addrPort())
	}
	for range rd.count(maxServices) {
		s := discovery.Service{Name: rd.text(maxName), Port: rd.u16()}
		var ok bool
		if s.Check, ok = checkOf(rd.u8()); !ok {
			return record{}, errMalformed
		}
		s.Capacity = int(rd.uvarint(maxCapacity))
		r.Services = append(r.Services, s)
	}
	r.Version, r.ENI = rd.text(maxVersion), rd.text(maxENI)
	ext := rd.take(int(rd.uvarint(maxExtension)))
	if rd.bad || len(rd.b) != 0 || r.Seq == 0 || readExtension(ext, &r) != nil || checkAnnouncement(r.Announcement) != nil {
		return record{}, errMalformed
	}
	return r, nil
}

// count reads a one-byte length of a list.
func (r *reader) count(limit int) int {
	n := int(r.u8())
	if n > limit {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return n
}

// checkAnnouncement holds the bounds that both directions share.
func checkAnnouncement(a discovery.Announcement) error {
	if len(a.Endpoints) > maxEndpoints {
		return fmt.Errorf("announce: %d endpoints, at most %d", len(a.Endpoints), maxEndpoints)
	}
	for _, e := range a.Endpoints {
		if !dialable(e) {
			return fmt.Errorf("announce: bad endpoint %s", e)
		}
	}
	if len(a.Services) > maxServices {
		return fmt.Errorf("announce: %d services, at most %d", len(a.Services), maxServices)
	}
	last := ""
	for _, s := range a.Services {
		if s.Name <= last || len(s.Name) > maxName || !printable(s.Name) {
			return fmt.Errorf("announce: service name %q must be 1-%d printable characters, each name once, sorted", s.Name, maxName)
		}
		if s.Port == 0 || s.Capacity < 0 || s.Capacity > maxCapacity {
			return fmt.Errorf("announce: service %s: port %d or capacity %d out of range", s.Name, s.Port, s.Capacity)
		}
		last = s.Name
	}
	if len(a.Version) > maxVersion || !printable(a.Version) || len(a.ENI) > maxENI || !printable(a.ENI) {
		return fmt.Errorf("announce: version or interface id is not 0-%d printable characters", maxVersion)
	}
	return checkWhereabouts(a)
}

// checks gives each service check its code on the wire.
var checks = [...]discovery.CheckState{discovery.CheckUnknown, discovery.CheckPassing, discovery.CheckFailing}

func checkCode(c discovery.CheckState) byte {
	for i, k := range checks {
		if k == c {
			return byte(i)
		}
	}
	return 0
}

func checkOf(code byte) (discovery.CheckState, bool) {
	if int(code) >= len(checks) {
		return "", false
	}
	return checks[code], true
}

// rawID is the binary form of an id, if it is one.
func rawID(id discovery.NodeID) (raw [idLen]byte, ok bool) {
	if len(id) != 2*idLen {
		return raw, false
	}
	if _, err := hex.Decode(raw[:], []byte(id)); err != nil {
		return raw, false
	}
	return raw, discovery.NodeID(hex.EncodeToString(raw[:])) == id
}

// signedText is what the signature of a record covers: never the body alone,
// so that a signature made here means nothing elsewhere or in another mesh.
func signedText(mesh string, body []byte) []byte {
	b := []byte("drawbridge gossip record v1\x00")
	b = appendText(b, mesh)
	return append(b, body...)
}

// splitSigned parts a signed record into body and signature.
func splitSigned(signed []byte) (body, sig []byte, err error) {
	n := len(signed) - ed25519.SignatureSize
	if n <= 0 || len(signed) > maxSigned {
		return nil, nil, errMalformed
	}
	return signed[:n], signed[n:], nil
}
