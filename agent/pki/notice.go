package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// NoticeKind says what a notice tells.
type NoticeKind string

// The kinds of notices, and who may sign them.
const (
	// NoticeRevoked: the node is out for good. A gateway's issuing key, or the root.
	NoticeRevoked NoticeKind = "revoked"
	// NoticeQuarantined: the node is set apart until it is released. As above.
	NoticeQuarantined NoticeKind = "quarantined"
	// NoticeReleased: the node is no longer set apart. As above.
	NoticeReleased NoticeKind = "released"
	// NoticeIssuerRevoked: all that one issuing key signed is void,
	// certificates and notices. The root only.
	NoticeIssuerRevoked NoticeKind = "issuer-revoked"
	// NoticeRoots: the roots to trust from now on. A root trusted until now.
	NoticeRoots NoticeKind = "roots"
)

// Bounds of notices.
const (
	// MaxNotice bounds a notice, in bytes.
	MaxNotice = 64 << 10
	// MaxSmallNotice bounds all but roots: they fit into a datagram.
	MaxSmallNotice = 1100
	maxNoticeCAs   = 96
)

// Notice is a signed public statement, spread to all nodes. It carries the
// certificate of its signer.
type Notice struct {
	Kind   NoticeKind
	Node   discovery.NodeID // revoked, quarantined, released: whom
	Name   string           // of the node or, for issuer-revoked, the gateway; for people, may be empty
	Issuer [32]byte         // issuer-revoked: the key, see [Pin]
	Reason string           // one word, 1 to 32 of a-z and "-"
	At     time.Time        // by the signer's clock, whole seconds
	Epoch  uint64           // quarantined and released, per node, and roots: the higher wins
	By     string           // the signer: a gateway's name, or "root"; read from its certificate, not encoded
	Roots  [][]byte         // roots: DER, the first one is the current root
	CAs    [][]byte         // roots: issuers and renewers as the current root certified them, DER
}

// ByRoot is the name of the root in [Notice.By].
const ByRoot = "root"

// What is wrong with a notice, besides [ErrUntrusted] and [ErrClaims].
var (
	// ErrNotice: not a notice, or not in the one form that it may have.
	ErrNotice = errors.New("malformed notice")
	// ErrNoticeFuture: signed more than a day from now; one of two clocks is wrong.
	ErrNoticeFuture = errors.New("notice from the future")
	// ErrNoticeOld: signed longer ago than notices are kept.
	ErrNoticeOld = errors.New("notice too old")
	// ErrNoticeFull: there is no room for another one.
	ErrNoticeFull = errors.New("too many notices")
)

// SignNotice signs a notice with an issuer or a root: issuer-revoked and roots
// with a root. A roots notice may be signed by more roots, so that nodes that
// trust only one of them believe it. By is ignored.
func SignNotice(s *Signer, mesh string, n Notice, also ...*Signer) ([]byte, error) {
	b, err := signNotice(mesh, n, append([]*Signer{s}, also...))
	if err != nil {
		return nil, fmt.Errorf("sign %s notice: %w", clip(string(n.Kind)), err)
	}
	return b, nil
}

func signNotice(mesh string, n Notice, signers []*Signer) ([]byte, error) {
	n.At = n.At.UTC().Truncate(time.Second)
	for _, s := range signers {
		by, of, err := caName(s.cert)
		if err != nil {
			return nil, err
		}
		if of != mesh {
			return nil, fmt.Errorf("%q is of the mesh %q, not %q", s, of, mesh)
		}
		if by != ByRoot && n.rootOnly() {
			return nil, fmt.Errorf("%q may not sign it, only a root", s)
		}
		if n.At.Before(s.cert.NotBefore) || n.At.After(s.cert.NotAfter) {
			return nil, fmt.Errorf("%w: %q is valid from %s to %s, not at %s", ErrIssuerExpired, s, stamp(s.cert.NotBefore), stamp(s.cert.NotAfter), stamp(n.At))
		}
	}
	var certs [][]byte
	for _, s := range signers {
		certs = append(certs, s.Cert())
	}
	text, err := noticeText(n, certs)
	if err != nil {
		return nil, err
	}
	b := slices.Clone(text)
	for _, s := range signers {
		b = append(b, ed25519.Sign(s.key, signedText(mesh, text))...)
	}
	// What nobody could read must not leave this host.
	if _, err := parseNotice(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ReadNotice reads a notice without believing it, for display. See [Roll.Add].
func ReadNotice(b []byte) (Notice, error) {
	t, err := parseNotice(slices.Clone(b)) // what it returns points into it
	return t.Notice, err
}

// caName reads who a CA certificate belongs to, and of which mesh: a gateway's
// name or [ByRoot]. A renewer signs no notices.
func caName(c *x509.Certificate) (by, mesh string, err error) {
	m, _, err := constraints(c)
	if err != nil {
		return "", "", err
	}
	name, ok := strings.CutPrefix(c.Subject.CommonName, m.Name)
	if ok && name == wordRoot && c.MaxPathLen == 1 {
		return ByRoot, m.Name, nil
	}
	gateway, ok := strings.CutPrefix(name, wordIssuer)
	if !ok || CheckLabel("gateway name", gateway) != nil || c.MaxPathLen != 0 {
		return "", "", fmt.Errorf("%q is neither a root nor an issuer", clip(c.Subject.CommonName))
	}
	return gateway, m.Name, nil
}

// rootOnly: what only a root may say.
func (n Notice) rootOnly() bool { return n.Kind == NoticeIssuerRevoked || n.Kind == NoticeRoots }

// aboutNode: what is said of one node, and forgotten after [NoticeLife].
func (n Notice) aboutNode() bool {
	return n.Kind == NoticeRevoked || n.Kind == NoticeQuarantined || n.Kind == NoticeReleased
}

// numbered: what has an epoch.
func (n Notice) numbered() bool {
	return n.Kind == NoticeQuarantined || n.Kind == NoticeReleased || n.Kind == NoticeRoots
}

// check holds for what is signed and for what is read.
func (n Notice) check() error {
	if n.Reason == "" || len(n.Reason) > 32 || strings.Trim(n.Reason, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return fmt.Errorf("reason %q: want one word, 1 to 32 of a-z and -", clip(n.Reason))
	}
	if at := n.At.Unix(); at <= 0 || at > 1<<40 {
		return errors.New("no time")
	}
	if n.Name != "" {
		if err := CheckLabel("name", n.Name); err != nil {
			return err
		}
	}
	switch {
	case n.aboutNode():
		if id, err := hex.DecodeString(string(n.Node)); err != nil || len(id) != 16 || hex.EncodeToString(id) != string(n.Node) {
			return fmt.Errorf("node %q: want 32 lower-case hexadecimal digits", clip(string(n.Node)))
		}
	case n.Kind == NoticeRoots:
		if len(n.Roots) == 0 || len(n.Roots) > maxRoots || len(n.CAs) > maxNoticeCAs {
			return fmt.Errorf("%d roots and %d other CA certificates, want 1 to %d and at most %d", len(n.Roots), len(n.CAs), maxRoots, maxNoticeCAs)
		}
	}
	return nil
}
