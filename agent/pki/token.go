package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"drawbridge/discovery"
)

// tokenPrefix starts every token of this version, so that scanners for leaked
// secrets can find one.
const tokenPrefix = "dbt1_"

// Bounds of a token.
const (
	maxTokenText  = 4096 // characters
	maxTokenAddrs = 8
	checksumLen   = 8
	tokenIDLen    = 8
)

// What is wrong with a token's text. None of these errors quotes it.
var (
	ErrTokenMalformed = errors.New("not a drawbridge token")
	ErrTokenTruncated = errors.New("token is cut short")
	ErrTokenChecksum  = errors.New("token is damaged (wrong checksum)")
	ErrTokenVersion   = errors.New("token is of a version that this agent does not know")
)

// Token is an enrolment token. Its secret is an Ed25519 seed that only signs;
// the gateway keeps the public half. It prints without the secret in every
// form; [Token.Encode] reveals it.
type Token struct {
	Mesh    string
	ID      string   // lower-case hex, names the token in logs and lists
	Addrs   []string // host:port of gateways that know the token
	Pin     [32]byte // SHA-256 of the root's public key
	Site    string
	Role    discovery.Role
	Expires time.Time // whole seconds

	// Behind two pointers, because fmt prints unexported fields of nested
	// values without asking their methods, but never follows a nested pointer.
	secret *secret
}

type secret struct{ key *[ed25519.SeedSize]byte }

// NewToken makes id and secret of a token with the given particulars.
func NewToken(t Token) (*Token, error) {
	var id [tokenIDLen]byte
	var key [ed25519.SeedSize]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	t.ID = hex.EncodeToString(id[:])
	t.Expires = t.Expires.UTC().Truncate(time.Second)
	t.secret = &secret{&key}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	return &t, nil
}

// Public is what the gateway keeps to check proofs.
func (t *Token) Public() ed25519.PublicKey { return t.private().Public().(ed25519.PublicKey) }

// Sign proves the secret over msg without telling it.
func (t *Token) Sign(msg []byte) []byte { return ed25519.Sign(t.private(), msg) }

func (t *Token) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(t.secret.key[:]) }

// String says which token it is, without the secret.
func (t Token) String() string {
	return fmt.Sprintf("token %s for a %s of site %s in mesh %s until %s", t.ID, t.Role, t.Site, t.Mesh, stamp(t.Expires))
}

// GoString is String: %#v must not reveal either.
func (t Token) GoString() string { return "pki.Token(" + t.String() + ")" }

// Format is String for every verb, %x and %d too.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is the id alone.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.ID) }

// Encode reveals the token as text, for the operator to carry to the host.
func (t *Token) Encode() string {
	id, _ := hex.DecodeString(t.ID) // checked when made or parsed
	b := make([]byte, 2, 256)       // length, filled in below
	b = append(b, id...)
	b = append(b, t.secret.key[:]...)
	b = append(b, t.Pin[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	for _, s := range []string{t.Mesh, t.Site, string(t.Role)} {
		b = appendString(b, s)
	}
	b = append(b, byte(len(t.Addrs)))
	for _, a := range t.Addrs {
		b = appendString(b, a)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)+checksumLen))
	sum := tokenSum(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:checksumLen]...))
}

// ParseToken reads a token; white space around it is ignored.
func ParseToken(text string) (*Token, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrTokenMalformed)
	}
	if err := checkTokenPrefix(text); err != nil {
		return nil, err
	}
	b, err := decodeToken(text[len(tokenPrefix):])
	if err != nil {
		return nil, err
	}
	r := fields{b: b}
	t := &Token{ID: hex.EncodeToString(r.take(tokenIDLen))}
	key := [ed25519.SeedSize]byte(r.take(ed25519.SeedSize))
	t.secret = &secret{&key}
	t.Pin = [32]byte(r.take(32))
	unix := binary.BigEndian.Uint64(r.take(8))
	t.Mesh, t.Site, t.Role = r.text(), r.text(), discovery.Role(r.text())
	for range r.take(1)[0] {
		t.Addrs = append(t.Addrs, r.text())
	}
	// The checksum was right, so these are the faults of whoever made it.
	if r.bad || len(r.b) != 0 || unix > 1<<40 {
		return nil, fmt.Errorf("%w: its fields do not fit", ErrTokenMalformed)
	}
	t.Expires = time.Unix(int64(unix), 0).UTC()
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokenMalformed, err)
	}
	return t, nil
}

func checkTokenPrefix(text string) error {
	switch {
	case len(text) > maxTokenText:
		return fmt.Errorf("%w: %d characters, a token has fewer than %d", ErrTokenMalformed, len(text), maxTokenText)
	case strings.HasPrefix(text, tokenPrefix):
		return nil
	case strings.HasPrefix(tokenPrefix, text):
		return fmt.Errorf("%w: it has %d characters", ErrTokenTruncated, len(text))
	}
	number, ok := strings.CutPrefix(text, "dbt")
	if head, _, found := strings.Cut(number, "_"); ok && found && len(head) <= 4 {
		if n, err := strconv.Atoi(head); err == nil && n >= 0 {
			return fmt.Errorf("%w: version %d, this agent knows 1; install the newer version", ErrTokenVersion, n)
		}
	}
	return fmt.Errorf("%w: it must start with %q", ErrTokenMalformed, tokenPrefix)
}

// decodeToken undoes the text form and checks length and checksum.
func decodeToken(text string) ([]byte, error) {
	for i := range len(text) {
		c := text[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return nil, fmt.Errorf("%w: character %d is not one of a token's", ErrTokenMalformed, i+1+len(tokenPrefix))
		}
	}
	// A length of 4n+1 is no base64: certainly cut, look at what is there.
	whole := text
	if len(whole)%4 == 1 {
		whole = whole[:len(whole)-1]
	}
	b, err := base64.RawURLEncoding.DecodeString(whole)
	if err != nil || len(b) < 2 {
		return nil, fmt.Errorf("%w: it has %d characters", ErrTokenTruncated, len(tokenPrefix)+len(text))
	}
	want := int(binary.BigEndian.Uint16(b))
	chars := base64.RawURLEncoding.EncodedLen(want)
	switch {
	case len(text) < chars:
		return nil, fmt.Errorf("%w: it has %d of %d characters", ErrTokenTruncated, len(tokenPrefix)+len(text), len(tokenPrefix)+chars)
	case len(text) > chars || len(b) != want || want < 2+checksumLen:
		return nil, fmt.Errorf("%w: it has %d characters, want %d", ErrTokenChecksum, len(tokenPrefix)+len(text), len(tokenPrefix)+chars)
	}
	body, sum := b[:len(b)-checksumLen], b[len(b)-checksumLen:]
	full := tokenSum(body)
	// The last character may carry bits that are not part of any byte; the
	// same token must not have two spellings.
	if !bytes.Equal(sum, full[:checksumLen]) || base64.RawURLEncoding.EncodeToString(b) != text {
		return nil, ErrTokenChecksum
	}
	return body[2:], nil
}

func tokenSum(b []byte) [32]byte { return sha256.Sum256(append([]byte(tokenPrefix), b...)) }

func (t *Token) check() error {
	if err := CheckLabel("mesh name", t.Mesh); err != nil {
		return err
	}
	if err := CheckLabel("site", t.Site); err != nil {
		return err
	}
	if err := CheckRole(t.Role); err != nil {
		return err
	}
	if t.Expires.Unix() <= 0 {
		return errors.New("no expiry")
	}
	if len(t.Addrs) == 0 || len(t.Addrs) > maxTokenAddrs {
		return fmt.Errorf("%d gateway addresses, want 1 to %d", len(t.Addrs), maxTokenAddrs)
	}
	for _, a := range t.Addrs {
		if err := CheckHostPort(a); err != nil {
			return err
		}
	}
	return nil
}

// CheckHostPort checks an address to dial: an IP address or DNS name, a colon,
// and a port from 1 to 65535.
func CheckHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || len(s) > 255 {
		return fmt.Errorf("address %q: want HOST:PORT or IP:PORT", clip(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q: the port must be 1 to 65535", clip(s))
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if err := CheckDomain(strings.ToLower(host)); err != nil {
		return fmt.Errorf("address %q: neither an IP address nor a DNS name", clip(s))
	}
	return nil
}

func appendString(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// fields takes fields off the front. After the end it yields zeros and
// remembers that it was bad.
type fields struct {
	b   []byte
	bad bool
}

func (r *fields) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	f := r.b[:n]
	r.b = r.b[n:]
	return f
}

func (r *fields) text() string { return string(r.take(int(r.take(1)[0]))) }
