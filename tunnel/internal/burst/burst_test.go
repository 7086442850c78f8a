package burst

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

const room = 16 // in front of each packet, as wireguard-go leaves it

// tcp makes a TCP packet with a right checksum.
func tcp(six bool, port uint16, seq uint32, flags byte, payload []byte) []byte {
	h := make([]byte, 32) // with 12 bytes of options, as timestamps take
	binary.BigEndian.PutUint16(h, port)
	binary.BigEndian.PutUint16(h[2:], 443)
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], 77)
	h[12], h[13] = 8<<4, flags
	copy(h[20:], "\x01\x01\x08\x0atimestam")
	return ip(six, protoTCP, 16, append(h, payload...))
}

func udp(six bool, port uint16, payload []byte) []byte {
	h := make([]byte, 8)
	binary.BigEndian.PutUint16(h, port)
	binary.BigEndian.PutUint16(h[2:], 53)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return ip(six, protoUDP, 6, append(h, payload...))
}

func ip(six bool, protocol byte, csumAt int, above []byte) []byte {
	var b []byte
	if six {
		b = append(make([]byte, 40), above...)
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(above)))
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
	} else {
		b = append(make([]byte, 20), above...)
		b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, protocol
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(b[10:], ^fold(slowSum(b[:20])))
	}
	above = b[len(b)-len(above):]
	finish(above, csumAt, pseudo(addresses(b), protocol, len(above))+slowSum(above))
	return b
}

// slowSum is RFC 1071, section 1, word by word.
func slowSum(b []byte) (s uint64) {
	for i := 0; i < len(b); i += 2 {
		w := [2]byte{b[i]}
		if i+1 < len(b) {
			w[1] = b[i+1]
		}
		s += uint64(binary.NativeEndian.Uint16(w[:]))
	}
	return s
}

func TestSum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if n%7 == 0 {
			b = bytes.Repeat([]byte{0xff}, n) // every carry
		}
		if got, want := fold(sum(b, 12345)), fold(slowSum(b)+12345); got != want {
			t.Fatalf("sum of %d bytes %#x, want %#x", n, got, want)
		}
	}
}

func placed(packets [][]byte) [][]byte {
	out := make([][]byte, len(packets))
	for i, p := range packets {
		out[i] = append(bytes.Repeat([]byte{0xaa}, room), p...)
	}
	return out
}

// through joins packets and cuts what comes out, as a kernel between would.
func through(t testing.TB, j *Joiner, packets [][]byte) (out [][]byte, writes int) {
	t.Helper()
	in := placed(packets)
	writes = j.Join(in, room)
	for i := range writes {
		whole := slices.Concat(j.Write(i, in, room)...)
		if len(whole) > HeaderLen+maxBytes {
			t.Fatalf("a write of %d bytes", len(whole))
		}
		out = append(out, cut(t, whole)...)
	}
	return out, writes
}

func cut(t testing.TB, whole []byte) (out [][]byte) {
	t.Helper()
	var c Cutter
	if err := c.Open(slices.Clone(whole)); err != nil {
		t.Fatal(err)
	}
	for !c.Empty() {
		places := [][]byte{make([]byte, 1<<16), make([]byte, 1<<16), make([]byte, 1<<16)}
		sizes := make([]int, len(places))
		n := c.Emit(places, sizes, 5)
		if n == 0 {
			t.Fatal("nothing comes of what is not empty")
		}
		for i := range n {
			out = append(out, places[i][5:5+sizes[i]])
		}
	}
	return out
}

func payload(n int, fill byte) []byte { return bytes.Repeat([]byte{fill, fill + 1, 3}, n)[:n] }

func TestJoin(t *testing.T) {
	bad := tcp(false, 1, 200, flagACK, payload(100, 1))
	bad[len(bad)-1] ^= 1
	noSum := udp(false, 1, payload(100, 1))
	noSum[26], noSum[27] = 0, 0
	fragment := udp(false, 1, payload(100, 1))
	fragment[6] = 0x20
	option := slices.Clone(tcp(false, 1, 200, flagACK, payload(100, 1)))
	option[43] ^= 1 // in the TCP options
	finish(option[20:], 16, func() uint64 {
		clear(option[36:38])
		return pseudo(addresses(option), protoTCP, 132) + slowSum(option[20:])
	}())
	for _, tt := range []struct {
		name   string
		in     [][]byte
		writes int
	}{
		{"a stream", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(100, 2)), tcp(false, 1, 300, flagACK|flagPSH, payload(30, 3))}, 1},
		{"a stream in IPv6", [][]byte{tcp(true, 1, 100, flagACK, payload(100, 1)), tcp(true, 1, 200, flagACK, payload(100, 2))}, 1},
		{"two streams", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 2, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(100, 2)), tcp(false, 2, 200, flagACK, payload(100, 2))}, 2},
		{"a hole", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 300, flagACK, payload(100, 2))}, 2},
		{"after PSH", [][]byte{tcp(false, 1, 100, flagACK|flagPSH, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(100, 2))}, 2},
		{"after a short one", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(9, 2)), tcp(false, 1, 209, flagACK, payload(9, 3))}, 2},
		{"a longer one", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(101, 2))}, 2},
		{"acknowledgements", [][]byte{tcp(false, 1, 100, flagACK, nil), tcp(false, 1, 100, flagACK, nil)}, 2},
		{"FIN between", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK|flagFIN, payload(100, 1)), tcp(false, 1, 300, flagACK, payload(100, 1))}, 3},
		{"a wrong checksum second", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), bad}, 2},
		{"a wrong checksum first", [][]byte{bad, tcp(false, 1, 300, flagACK, payload(100, 1)), tcp(false, 1, 400, flagACK, payload(100, 1))}, 2},
		{"other options", [][]byte{tcp(false, 1, 100, flagACK, payload(100, 1)), option}, 2},
		{"datagrams", [][]byte{udp(false, 1, payload(100, 1)), udp(false, 1, payload(100, 2)), udp(false, 1, payload(10, 2)), udp(false, 1, payload(10, 2))}, 2},
		{"datagrams in IPv6", [][]byte{udp(true, 1, payload(100, 1)), udp(true, 1, payload(100, 2))}, 1},
		{"datagrams without a checksum", [][]byte{noSum, noSum}, 2},
		{"fragments", [][]byte{fragment, fragment}, 2},
		{"too many for one", slices.Collect(func(yield func([]byte) bool) {
			for i := range 65 {
				if !yield(tcp(false, 1, uint32(100*i), flagACK, payload(100, 1))) {
					return
				}
			}
		}), 2},
		{"too much for one", slices.Collect(func(yield func([]byte) bool) {
			for i := range 8 {
				if !yield(tcp(false, 1, uint32(9000*i), flagACK, payload(9000, 1))) {
					return
				}
			}
		}), 2},
		{"more flows than are followed", slices.Collect(func(yield func([]byte) bool) {
			for i := range 2 * (maxOpen + 1) {
				if !yield(udp(false, uint16(i%(maxOpen+1)), payload(100, byte(i)))) {
					return
				}
			}
		}), maxOpen + 2},
		{"no IP", [][]byte{{}, {1}, bytes.Repeat([]byte{0xff}, 100)}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := placed(tt.in)
			j := &Joiner{UDP: true}
			if got := j.Join(in, room); got != tt.writes {
				t.Fatalf("%d writes, want %d", got, tt.writes)
			}
			if tt.name == "no IP" {
				return
			}
			out, _ := through(t, j, tt.in)
			same(t, tt.in, out)
		})
	}
}

// same compares packets flow by flow, but for IPv4's identification and what
// depends on it.
func same(t testing.TB, want, got [][]byte) {
	t.Helper()
	flows := func(ps [][]byte) map[string][][]byte {
		m := map[string][][]byte{}
		for _, p := range ps {
			p = slices.Clone(p)
			key := ""
			if len(p) >= 28 && p[0] == 0x45 {
				clear(p[4:6])
				clear(p[10:12])
				key = fmt.Sprintf("%d %v", p[9], p[12:24])
			} else if len(p) >= 48 {
				key = fmt.Sprintf("%d %v", p[6], p[8:44])
			}
			m[key] = append(m[key], p)
		}
		return m
	}
	w, g := flows(want), flows(got)
	for k := range w {
		if len(w[k]) != len(g[k]) {
			t.Fatalf("flow %s: %d packets, want %d", k, len(g[k]), len(w[k]))
		}
		for i := range w[k] {
			if !bytes.Equal(w[k][i], g[k][i]) {
				t.Fatalf("flow %s, packet %d:\n%x, want\n%x", k, i, g[k][i], w[k][i])
			}
		}
	}
	if len(w) != len(g) {
		t.Fatalf("%d flows, want %d", len(g), len(w))
	}
}

// TestJoinProperty throws streams with all their accidents at the joiner.
func TestJoinProperty(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	j := &Joiner{UDP: true}
	saved := 0
	for range 2000 {
		var in [][]byte
		seqs := map[int]uint32{}
		for range 1 + rnd.IntN(128) {
			flow, six, n := rnd.IntN(4), rnd.IntN(8) == 0, []int{100, 100, 100, 100, 50, 1, 0}[rnd.IntN(7)]
			flags := byte(flagACK)
			if rnd.IntN(10) == 0 {
				flags = byte(rnd.Uint32())
			}
			if rnd.IntN(20) == 0 {
				seqs[flow] += 3
			}
			var p []byte
			if flow < 3 {
				p = tcp(six, uint16(flow), seqs[flow], flags, payload(n, byte(rnd.Uint32())))
				seqs[flow] += uint32(n)
			} else {
				p = udp(six, 9, payload(n, byte(rnd.Uint32())))
			}
			if rnd.IntN(30) == 0 {
				p[rnd.IntN(len(p)-21)+21] ^= 1 << rnd.IntN(8)
			}
			in = append(in, p)
		}
		out, writes := through(t, j, in)
		same(t, in, out)
		saved += len(in) - writes
	}
	if saved < 1000 {
		t.Errorf("only %d writes were saved: the test joins nothing", saved)
	}
}

func TestCutSingleFinishesChecksum(t *testing.T) {
	want := tcp(false, 1, 1, flagACK, payload(100, 1))
	p := slices.Clone(want)
	binary.BigEndian.PutUint16(p[36:], fold(pseudo(addresses(p), protoTCP, len(p)-20)))
	b := make([]byte, HeaderLen)
	header{flags: needsChecksum, csumAt: 20, csumHere: 16}.write(b)
	if got := cut(t, append(b, p...)); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestCutTCP(t *testing.T) {
	for _, six := range []bool{false, true} {
		all := payload(250, 1)
		whole := tcp(six, 1, 1000, flagACK|flagPSH, all)
		var c Cutter
		if err := c.OpenTCP(whole, 100); err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		places, sizes := [][]byte{make([]byte, 300)}, make([]int, 1)
		for c.Emit(places, sizes, 0) == 1 {
			got = append(got, slices.Clone(places[0][:sizes[0]]))
		}
		same(t, [][]byte{tcp(six, 1, 1000, flagACK, all[:100]), tcp(six, 1, 1100, flagACK, all[100:200]), tcp(six, 1, 1200, flagACK|flagPSH, all[200:])}, got)
	}
	for _, n := range []int{0, 1, 100} {
		want := tcp(true, 1, 1, flagACK, payload(n, 1))
		whole := slices.Clone(want)
		whole[40+16] ^= 1
		var c Cutter
		places, sizes := [][]byte{make([]byte, 300)}, make([]int, 1)
		if err := c.OpenTCP(whole, 100); err != nil || c.Emit(places, sizes, 0) != 1 || !bytes.Equal(places[0][:sizes[0]], want) {
			t.Errorf("payload of %d: %v, %x", n, err, places[0][:sizes[0]])
		}
	}
	var c Cutter
	if c.OpenTCP(nil, 100) == nil || c.OpenTCP(tcp(false, 1, 1, flagACK, payload(9, 1)), 1<<16) == nil || !c.Empty() {
		t.Error("took what is none")
	}
}

func TestCutRefuses(t *testing.T) {
	p := tcp(false, 1, 1, flagACK, payload(100, 1))
	for name, h := range map[string]header{
		"segments of nothing":    {kind: kindTCP4, csumAt: 20, csumHere: 16},
		"another kind":           {kind: 3, segment: 10, csumAt: 20, csumHere: 16},
		"with ECN":               {kind: kindTCP4 | 0x80, segment: 10, csumAt: 20, csumHere: 16},
		"the wrong version":      {kind: kindTCP6, segment: 10, csumAt: 20, csumHere: 16},
		"beyond the packet":      {kind: kindTCP4, segment: 10, csumAt: 140, csumHere: 16},
		"no room for IP":         {kind: kindTCP4, segment: 10, csumAt: 2, csumHere: 16},
		"checksum elsewhere":     {kind: kindTCP4, segment: 10, csumAt: 20, csumHere: 60000},
		"checksum beyond":        {flags: needsChecksum, csumAt: 150, csumHere: 16},
		"checksum of a datagram": {kind: kindUDP, segment: 10, csumAt: 20, csumHere: 16},
	} {
		b := make([]byte, HeaderLen)
		h.write(b)
		var c Cutter
		if err := c.Open(append(b, p...)); err == nil || !c.Empty() {
			t.Errorf("%s: taken", name)
		}
	}
	for n := range HeaderLen + 1 {
		var c Cutter
		if err := c.Open(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: taken", n)
		}
	}
}

func FuzzCut(f *testing.F) {
	b := make([]byte, HeaderLen)
	header{kind: kindTCP4, segment: 10, csumAt: 20, csumHere: 16}.write(b)
	f.Add(append(b, tcp(false, 1, 1, flagACK, payload(100, 1))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Cutter
		if c.Open(b) != nil {
			return
		}
		places, sizes := [][]byte{make([]byte, 3000), make([]byte, 20)}, make([]int, 2)
		for range 1 << 16 {
			if c.Empty() {
				return
			}
			for i := range c.Emit(places, sizes, room) {
				if sizes[i] > len(places[i])-room {
					t.Fatal("larger than its place")
				}
			}
		}
		t.Fatal("never empty")
	})
}

func FuzzJoin(f *testing.F) {
	f.Add(tcp(false, 1, 100, flagACK, payload(100, 1)), tcp(false, 1, 200, flagACK, payload(100, 1)))
	f.Add(udp(true, 1, payload(100, 1)), udp(true, 1, payload(10, 1)))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) == 0 || len(b) == 0 || len(a)+len(b) > 1<<15 {
			return
		}
		out, writes := through(t, &Joiner{UDP: true}, [][]byte{slices.Clone(a), slices.Clone(b)})
		if writes == 1 {
			same(t, [][]byte{a, b}, out)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	in := make([]byte, HeaderLen)
	header{kind: kindTCP4, segment: 1368, csumAt: 20, csumHere: 16}.write(in)
	in = append(in, tcp(false, 1, 1, flagACK, payload(46*1368, 1))...)
	places, sizes := make([][]byte, 128), make([]int, 128)
	for i := range places {
		places[i] = make([]byte, 1<<16)
	}
	var c Cutter
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Open(in); err != nil || c.Emit(places, sizes, room) != 46 {
			b.Fatal(err)
		}
	}
}

func BenchmarkJoin(b *testing.B) {
	var in [][]byte
	for i := range 46 {
		in = append(in, tcp(false, 1, uint32(1368*i), flagACK, payload(1368, 1)))
	}
	in = placed(in)
	j := &Joiner{UDP: true}
	b.SetBytes(46 * 1420)
	b.ReportAllocs()
	for b.Loop() {
		for i := range j.Join(in, room) {
			j.Write(i, in, room)
		}
	}
}
