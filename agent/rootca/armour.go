package rootca

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The kinds of text that travel. Both are public.
const (
	armourRequest = "DRAWBRIDGE GATEWAY REQUEST"
	armourGrant   = "DRAWBRIDGE GATEWAY GRANT"
)

// formVersion is in both; others are refused.
const formVersion = 1

// maxText bounds a request or grant, in characters: a grant holds a few
// certificates.
const maxText = 64 << 10

// ErrText means that a text is no request, or no grant.
var ErrText = errors.New("not what was expected")

// wrap writes v as JSON in PEM armour: what mail and paper do not hurt.
func wrap(kind string, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("rootca: " + err.Error()) // plain fields only
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
}

// unwrap reads one block and nothing beside it, strictly.
func unwrap(kind, text string, v any) error {
	text = strings.TrimSpace(text)
	if len(text) > maxText {
		return fmt.Errorf("%w: %d characters, at most %d", ErrText, len(text), maxText)
	}
	if !strings.HasPrefix(text, "-----BEGIN ") {
		return fmt.Errorf("%w: want one block that begins with -----BEGIN %s-----", ErrText, kind)
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil || len(block.Headers) != 0:
		return fmt.Errorf("%w: damaged or cut short; copy all of it, from the line BEGIN to the line END", ErrText)
	case block.Type != kind:
		return fmt.Errorf("%w: a %q, want a %q", ErrText, clip(block.Type), kind)
	case len(bytes.TrimSpace(rest)) != 0:
		return fmt.Errorf("%w: more than one block", ErrText)
	}
	dec := json.NewDecoder(bytes.NewReader(block.Bytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrText, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one value", ErrText)
	}
	return nil
}

// clip bounds what strangers get into our error texts.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
