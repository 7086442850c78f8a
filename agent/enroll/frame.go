package enroll

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Bounds of frames. A stranger's question is read into memory before anything
// is known of him; an answer comes from a gateway whose chain was verified.
const (
	maxFrame  = 64 << 10
	maxAnswer = 256 << 10
)

// unmarshal is strict: unknown fields and trailing bytes are errors.
func unmarshal(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the value")
	}
	return nil
}

// readFrame reads one length and so many bytes.
func readFrame(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > limit {
		return nil, fmt.Errorf("read frame: %d bytes, at most %d", n, limit)
	}
	// Memory follows what has come, not what a stranger announces.
	var b bytes.Buffer
	if m, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, fmt.Errorf("read frame: %d of %d bytes: %w", m, n, err)
	}
	return b.Bytes(), nil
}

// writeFrame writes a value as one frame.
func writeFrame(w io.Writer, v any, limit int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if len(b) > limit {
		return fmt.Errorf("write frame: %d bytes, at most %d", len(b), limit)
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}
