package probe

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNoteRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name    string
		n       note
		headers int
		length  int
	}{
		{"seen", note{kind: noteSeen, seen: netip.MustParseAddrPort("203.0.113.7:51820")}, 28, 38},
		{"seen, IPv6", note{kind: noteSeen, seen: netip.MustParseAddrPort("[2001:db8::7]:1")}, 28, 38},
		{"size", note{kind: noteSize, size: 1440, boot: 7, seq: 9}, 28, 1412},
		{"size, IPv6 overlay", note{kind: noteSize, size: 1280, boot: 7, seq: 9}, 48, 1232},
		{"largest", note{kind: noteSize, size: maxSize, boot: 7, seq: 9}, 28, maxSize - 28},
		{"whole", note{kind: noteWhole, size: 1440, boot: 7, seq: 9}, 28, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.n.encode(bytes.Repeat([]byte{0xff}, maxSize), tt.headers)
			if len(b) != tt.length {
				t.Errorf("%d bytes, want %d", len(b), tt.length)
			}
			var got note
			if err := got.decode(b, tt.headers); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.n, got, cmp.AllowUnexported(note{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestNoteRefused(t *testing.T) {
	seen := func(a netip.AddrPort) []byte {
		n := note{kind: noteSeen, seen: a}
		return n.encode(make([]byte, maxSize), 28)
	}
	size := func(size int) []byte {
		n := note{kind: noteSize, size: size, boot: 1, seq: 1}
		return n.encode(make([]byte, maxSize+1), 28)
	}
	set := func(b []byte, i int, v byte) []byte { b[i] = v; return b }
	whole := note{kind: noteWhole, size: 1440, boot: 1, seq: 1}
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"short", size(1440)[:19]},
		{"kind 0", set(size(1440), 1, 0)},
		{"kind 4", set(size(1440), 1, 4)},
		{"cut short", size(1440)[:1411]},
		{"too long", append(size(1440), 0)},
		{"smaller than any path", size(minSize - 1)},
		{"larger than any frame", size(maxSize + 1)},
		{"sequence 0", set(size(1440), 19, 0)},
		{"boot 0", set(size(1440), 11, 0)},
		{"whole and more", append(whole.encode(make([]byte, maxSize), 28), 0)},
		{"seen from nowhere", seen(netip.AddrPortFrom(netip.IPv4Unspecified(), 1))},
		{"seen from port 0", seen(netip.MustParseAddrPort("203.0.113.7:0"))},
		{"seen from a group", seen(netip.MustParseAddrPort("224.0.0.1:1"))},
		{"seen with a sequence", set(seen(netip.MustParseAddrPort("203.0.113.7:1")), 19, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n note
			if err := n.decode(tt.b, 28); err == nil {
				t.Errorf("taken as %+v", n)
			}
		})
	}
}

// FuzzNote: what is taken is what encode writes, the filling aside, and no note
// shows more than what was sent.
func FuzzNote(f *testing.F) {
	for _, n := range []note{
		{kind: noteSeen, seen: netip.MustParseAddrPort("203.0.113.7:51820")},
		{kind: noteSize, size: 1280, boot: 7, seq: 9},
		{kind: noteWhole, size: 1440, boot: 5, seq: 5},
	} {
		f.Add(n.encode(make([]byte, maxSize), 28))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var n note
		if n.decode(b, 28) != nil {
			return
		}
		got := n.encode(make([]byte, maxSize), 28)
		head := noteLen
		if n.kind == noteSeen {
			head = seenLen
		}
		if len(got) != len(b) || !bytes.Equal(got[:head], b[:head]) {
			t.Fatalf("%x decodes and encodes to %x", b[:head], got[:head])
		}
		now := time.Unix(1000, 0)
		var z sizing
		z.ask(1440)
		for seq := range uint64(3) {
			z.sent(seq+4, now)
		}
		if z.came(&n, now) && (n.size != 1440 || n.seq < 4 || n.seq > 6) {
			t.Fatalf("whole by %+v", n)
		}
	})
}
