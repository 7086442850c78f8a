package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"drawbridge/discovery"
)

// The form of a notice; numbers are big endian, a string follows its length in
// one byte, a certificate (DER) its length in two:
//
//	1   version, 1
//	1   kind
//	8   time, seconds of Unix
//	..  reason (string), name (string)
//	16  node                           revoked, quarantined, released
//	32  issuing key                    issuer-revoked
//	8   epoch                          quarantined, released, roots
//	..  1 count, roots; 1 count, CAs   roots
//	..  1 count, signers' certificates (one, but for roots)
//	64  signature of each signer
//
// Signed is "drawbridge notice 1\x00", the mesh's name (string), and all of the
// above but the signatures. So a notice has one form only: other bytes are
// another notice, or none.
const (
	noticeVersion = 1
	noticePrefix  = "drawbridge notice 1\x00"
)

var noticeCodes = map[NoticeKind]byte{
	NoticeRevoked: 1, NoticeQuarantined: 2, NoticeReleased: 3, NoticeIssuerRevoked: 4, NoticeRoots: 5,
}

func kindOfCode(code byte) NoticeKind {
	for kind, c := range noticeCodes {
		if c == code {
			return kind
		}
	}
	return ""
}

// told is a notice as it was read, with what proves it.
type told struct {
	Notice
	text    []byte // what precedes the signatures
	signers []*x509.Certificate
	sigs    [][]byte
}

// noticeText is what is signed, behind the mesh.
func noticeText(n Notice, signers [][]byte) ([]byte, error) {
	code, ok := noticeCodes[n.Kind]
	if !ok {
		return nil, fmt.Errorf("%w: kind %q", ErrNotice, clip(string(n.Kind)))
	}
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotice, err)
	}
	b := []byte{noticeVersion, code}
	b = binary.BigEndian.AppendUint64(b, uint64(n.At.Unix()))
	b = appendString(appendString(b, n.Reason), n.Name)
	if n.aboutNode() {
		id, _ := hex.DecodeString(string(n.Node)) // checked
		b = append(b, id...)
	}
	if n.Kind == NoticeIssuerRevoked {
		b = append(b, n.Issuer[:]...)
	}
	if n.numbered() {
		b = binary.BigEndian.AppendUint64(b, n.Epoch)
	}
	if n.Kind == NoticeRoots {
		b = appendCerts(appendCerts(b, n.Roots), n.CAs)
	}
	return appendCerts(b, signers), nil
}

func appendCerts(b []byte, certs [][]byte) []byte {
	b = append(b, byte(len(certs)))
	for _, c := range certs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
		b = append(b, c...)
	}
	return b
}

func signedText(mesh string, text []byte) []byte {
	return append(appendString([]byte(noticePrefix), mesh), text...)
}

// parseNotice reads a notice and checks its form, not its signatures.
func parseNotice(b []byte) (told, error) {
	bad := func(format string, args ...any) (told, error) {
		return told{}, fmt.Errorf("%w: %w", ErrNotice, fmt.Errorf(format, args...))
	}
	if len(b) > MaxNotice {
		return bad("%d bytes, at most %d", len(b), MaxNotice)
	}
	r := fields{b: b}
	if v := r.take(1)[0]; v != noticeVersion {
		return bad("version %d, this agent knows %d", v, noticeVersion)
	}
	t := told{Notice: Notice{Kind: kindOfCode(r.take(1)[0])}}
	if t.Kind == "" {
		return bad("unknown kind")
	}
	unix := binary.BigEndian.Uint64(r.take(8))
	if unix > 1<<40 {
		return bad("no time")
	}
	t.At = time.Unix(int64(unix), 0).UTC()
	t.Reason, t.Name = r.text(), r.text()
	if t.aboutNode() {
		t.Node = discovery.NodeID(hex.EncodeToString(r.take(16)))
	}
	if t.Kind == NoticeIssuerRevoked {
		t.Issuer = [32]byte(r.take(32))
	}
	if t.numbered() {
		t.Epoch = binary.BigEndian.Uint64(r.take(8))
	}
	maxSigners := 1
	if t.Kind == NoticeRoots {
		maxSigners = maxRoots
		t.Roots, t.CAs = r.certs(maxRoots), r.certs(maxNoticeCAs)
	} else if len(b) > MaxSmallNotice {
		return bad("%d bytes, at most %d", len(b), MaxSmallNotice)
	}
	signers := r.certs(maxSigners)
	if r.bad || len(signers) == 0 {
		return bad("its fields do not fit")
	}
	t.text = b[:len(b)-len(r.b)]
	for range signers {
		t.sigs = append(t.sigs, r.take(ed25519.SignatureSize))
	}
	if r.bad || len(r.b) != 0 {
		return bad("its signatures do not fit")
	}
	if err := t.check(); err != nil {
		return bad("%w", err)
	}
	if err := t.readSigners(signers); err != nil {
		return bad("%w", err)
	}
	return t, nil
}

// readSigners checks that the signers, if they are whom they say, may say it.
func (t *told) readSigners(ders [][]byte) error {
	for i, der := range ders {
		c, err := parseCert(der)
		if err != nil {
			return fmt.Errorf("signer: %w", err)
		}
		by, _, err := caName(c)
		if err != nil {
			return fmt.Errorf("signer: %w", err)
		}
		if by != ByRoot && t.rootOnly() {
			return fmt.Errorf("signed by %q, want a root", by)
		}
		for _, other := range t.signers {
			if bytes.Equal(other.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
				return fmt.Errorf("signed twice by %q", by)
			}
		}
		if i == 0 {
			t.By = by
		}
		t.signers = append(t.signers, c)
	}
	return nil
}

// proven checks all signatures against the signers' certificates.
func (t told) proven(mesh string) bool {
	text := signedText(mesh, t.text)
	for i, c := range t.signers {
		if !ed25519.Verify(c.PublicKey.(ed25519.PublicKey), text, t.sigs[i]) {
			return false
		}
	}
	return true
}

// certs reads a list of at most limit certificates.
func (r *fields) certs(limit int) [][]byte {
	n := int(r.take(1)[0])
	if n > limit {
		r.bad, r.b = true, nil
		return nil
	}
	var certs [][]byte
	for range n {
		size := int(binary.BigEndian.Uint16(r.take(2)))
		if size == 0 || size > maxCert {
			r.bad, r.b = true, nil
			return nil
		}
		certs = append(certs, r.take(size))
	}
	return certs
}
