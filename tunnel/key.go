package tunnel

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
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
// host: String and LogValue redact it.
type PrivateKey [KeyLen]byte

// NewPrivateKey makes a key from the system's random source.
func NewPrivateKey() (PrivateKey, error) {
	var k PrivateKey
	if _, err := rand.Read(k[:]); err != nil {
		return k, fmt.Errorf("make wireguard key: %w", err)
	}
	// Clamping as in RFC 7748, section 5.
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k, nil
}

// ParsePrivateKey reads the base64 form that `wg genkey` prints.
func ParsePrivateKey(s string) (PrivateKey, error) {
	k, err := ParseKey(s)
	return PrivateKey(k), err
}

// Public derives the public key.
func (k PrivateKey) Public() (Key, error) {
	p, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		return Key{}, fmt.Errorf("derive wireguard public key: %w", err)
	}
	return Key(p.PublicKey().Bytes()), nil
}

// Base64 reveals the key, for the state directory only.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex reveals the key, for the device only.
func (k PrivateKey) Hex() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether the key is absent.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

// String redacts.
func (k PrivateKey) String() string { return "(redacted)" }

// GoString redacts, so that %#v does too.
func (k PrivateKey) GoString() string { return "tunnel.PrivateKey(redacted)" }

// LogValue redacts.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue("(redacted)") }
