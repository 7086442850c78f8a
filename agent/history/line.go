package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// maxLine bounds a line, its newline included.
const maxLine = 4 << 10

// line is an event as it stands in a segment.
type line struct {
	Event
	Segment int    `json:"segment,omitempty"` // number of the segment, on its first line only
	Prev    string `json:"prev,omitempty"`    // hash of the line before, see hashOf; "" on the very first
}

// hashOf is what the next line carries of this one: the first 16 hex digits of
// the SHA-256 of its bytes without the newline.
func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// encode returns the line with its newline, clipping until it fits. The event
// must be clean.
func (l line) encode() ([]byte, error) {
	for limit := maxString; ; limit /= 2 {
		c := l
		c.Event = l.clipped(limit)
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // an arrow stays readable
		if err := enc.Encode(c); err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		if b.Len() <= maxLine {
			return b.Bytes(), nil
		}
		if limit <= minString {
			return nil, fmt.Errorf("encode event: %d bytes do not fit into a line of %d", b.Len(), maxLine)
		}
	}
}

var (
	errLong     = fmt.Errorf("longer than the %d bytes of a line", maxLine)
	errNotEvent = errors.New("not an event")
)

// decode reads a line without its newline. Fields that it does not know, of a
// later version, are passed over.
func decode(raw []byte) (line, error) {
	if len(raw) >= maxLine {
		return line{}, errLong
	}
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return line{}, fmt.Errorf("%w: %w", errNotEvent, err)
	}
	switch {
	case l.Seq == 0:
		return line{}, fmt.Errorf("%w: no number", errNotEvent)
	case l.At.IsZero() || !writable(l.At):
		return line{}, fmt.Errorf("%w: no time", errNotEvent)
	case !kindWord.MatchString(l.Kind):
		return line{}, fmt.Errorf("%w: %w", errNotEvent, ErrKind)
	case len(l.Detail) > maxDetails:
		return line{}, fmt.Errorf("%w: %d details, at most %d", errNotEvent, len(l.Detail), maxDetails)
	case l.Segment < 0 || l.Segment > maxNumber:
		return line{}, fmt.Errorf("%w: no such segment", errNotEvent)
	case l.Prev != "" && !isHash(l.Prev):
		return line{}, fmt.Errorf("%w: the hash of the line before is malformed", errNotEvent)
	}
	l.At = l.At.UTC()
	return l, nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 8 && hex.EncodeToString(b) == s
}
