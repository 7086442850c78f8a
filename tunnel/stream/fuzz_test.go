package stream

import (
	"bytes"
	"testing"
)

// FuzzFrames: whatever a connection brings, in whatever pieces, every datagram
// is within the bounds, is what was sent, and the splitter never stands still.
func FuzzFrames(f *testing.F) {
	frame := func(d []byte) []byte { return append([]byte{byte(len(d) >> 8), byte(len(d))}, d...) }
	f.Add([]byte{0, 0, 0, 0}, uint8(1))
	f.Add(append(frame(data(1, 2, 64)), frame(initiation(3))...), uint8(3))
	f.Add(append([]byte{0, 0}, frame(data(1, 2, maxDatagram))...), uint8(200))
	f.Add([]byte{0xff, 0xff, 4, 0, 0, 0}, uint8(9))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		var s splitter
		var out []byte
		rest := in
		for {
			d, ok, err := s.next()
			if err != nil {
				return
			}
			if ok {
				if len(d) > 0 && !plausible(d) {
					t.Fatalf("%d bytes of type %d", len(d), d[0])
				}
				out = append(out, frame(d)...)
				continue
			}
			if len(rest) == 0 {
				break
			}
			space := s.space()
			if len(space) == 0 {
				t.Fatal("no room, and nothing to take")
			}
			n := copy(space, rest[:min(len(rest), int(piece)+1)])
			s.add(n)
			rest = rest[n:]
		}
		if !bytes.HasPrefix(in, out) || len(in)-len(out) >= headerLen+maxDatagram {
			t.Fatalf("%d bytes in, %d in frames", len(in), len(out))
		}
	})
}
