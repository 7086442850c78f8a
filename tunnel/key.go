package tunnel

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// KeyLen is the length in bytes of a Curve25519 key (RFC 7748).
const KeyLen = 32

// Key is the public WireGuard key of a node.
type Key [KeyLen]byte

// ParseKey reads the base64 form that the WireGuard tools print.
func ParseKey(s string) (Key, error) {
	var k Key
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return k, fmt.Errorf("parse wireguard key: %w", err)
	}
	if len(b) != KeyLen {
		return k, fmt.Errorf("parse wireguard key: %d bytes, want %d", len(b), KeyLen)
	}
	copy(k[:], b)
	return k, nil
}

// String is the base64 form that the WireGuard tools print.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex is the form of the cross-platform configuration protocol (UAPI).
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether the key is absent.
func (k Key) IsZero() bool { return k == Key{} }

// Compare orders keys bytewise, as slices.SortFunc wants it.
func (k Key) Compare(o Key) int {
	for i := range k {
		if k[i] != o[i] {
			return int(k[i]) - int(o[i])
		}
	}
	return 0
}

// PrivateKey is the private WireGuard key of this node. It never leaves the
// host: whatever prints, logs or encodes it says that it is redacted, and only
// Base64 and Hex reveal it. Copies share the key.
type PrivateKey struct {
	_ [0]func() // pointers are not to be compared: Equal is
	// Behind two pointers: a crash prints the arguments of functions and what is
	// left on stacks, and fmt prints unexported fields without asking methods,
	// and follows one pointer for a wrong verb.
	secret *secret
}

type secret struct{ key *[KeyLen]byte }

// NewPrivateKey makes a key from the system's random source.
func NewPrivateKey() (PrivateKey, error) {
	b := new([KeyLen]byte)
	if _, err := rand.Read(b[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("make wireguard key: %w", err)
	}
	// Clamping as in RFC 7748, section 5.
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return PrivateKeyOf(b), nil
}

// PrivateKeyOf takes over the bytes of a key.
func PrivateKeyOf(b *[KeyLen]byte) PrivateKey { return PrivateKey{secret: &secret{b}} }

// ParsePrivateKey reads the base64 form that `wg genkey` prints.
func ParsePrivateKey(s string) (PrivateKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("parse wireguard key: %w", err)
	}
	if len(b) != KeyLen {
		return PrivateKey{}, fmt.Errorf("parse wireguard key: %d bytes, want %d", len(b), KeyLen)
	}
	return PrivateKeyOf((*[KeyLen]byte)(b)), nil
}

// bytes are the key's, or zeros.
func (k PrivateKey) bytes() []byte {
	if k.secret == nil {
		return make([]byte, KeyLen)
	}
	return k.secret.key[:]
}

// Public derives the public key.
func (k PrivateKey) Public() (Key, error) {
	p, err := ecdh.X25519().NewPrivateKey(k.bytes())
	if err != nil {
		return Key{}, fmt.Errorf("derive wireguard public key: %w", err)
	}
	return Key(p.PublicKey().Bytes()), nil
}

// Base64 reveals the key, for the state directory only.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k.bytes()) }

// Hex reveals the key, for the device only.
func (k PrivateKey) Hex() string { return hex.EncodeToString(k.bytes()) }

// Equal reports whether two keys are the same.
func (k PrivateKey) Equal(o PrivateKey) bool {
	return subtle.ConstantTimeCompare(k.bytes(), o.bytes()) == 1
}

// IsZero reports whether the key is absent.
func (k PrivateKey) IsZero() bool { return k.Equal(PrivateKey{}) }

const redacted = "(redacted)"

// Format redacts, for every verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String redacts.
func (k PrivateKey) String() string { return redacted }

// MarshalText redacts, in JSON too.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue redacts.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }
