package queue

import (
	"encoding/binary"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// drops feeds a packet every 100 us with the delays of f, and tells when each
// drop was.
func drops(c *Codel, for_ time.Duration, f func(time.Duration) time.Duration) (at []time.Duration) {
	for t := time.Duration(0); t < for_; t += 100 * time.Microsecond {
		if c.Drop(noon.Add(t), f(t)) {
			at = append(at, t)
		}
	}
	return at
}

func TestCodelLetsBurstsPass(t *testing.T) {
	for name, delay := range map[string]func(time.Duration) time.Duration{
		"short queue":    func(time.Duration) time.Duration { return Target - 1 },
		"one long burst": func(t time.Duration) time.Duration { return max(0, 4*time.Millisecond-t) },
		"bursts that drain": func(t time.Duration) time.Duration {
			return t % (4 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if at := drops(&Codel{}, time.Second, delay); len(at) > 0 {
				t.Errorf("%d drops, first after %v", len(at), at[0])
			}
		})
	}
}

func TestCodelDropsFasterWhileQueueStands(t *testing.T) {
	var c Codel
	at := drops(&c, 200*time.Millisecond, func(time.Duration) time.Duration { return 2 * Target })
	if len(at) < 100 || at[0] != Interval {
		t.Fatalf("%d drops, first after %v; want more than 100, the first after %v", len(at), at[0], Interval)
	}
	// In the time t the control law drops (t/2I)^2 packets.
	if half := len(drops(&Codel{}, 100*time.Millisecond, func(time.Duration) time.Duration { return 2 * Target })); len(at) < 3*half {
		t.Errorf("%d drops in twice the time of %d: it does not get faster", len(at), half)
	}
	if c.Drop(noon.Add(time.Second), Target/2) {
		t.Error("dropped although the queue is short again")
	}
	if c.Drop(noon.Add(time.Second+time.Millisecond), 2*Target) {
		t.Error("dropped at once when the queue is long again")
	}
}

func TestCodelDoesNotMakeUpForSilence(t *testing.T) {
	var c Codel
	drops(&c, 100*time.Millisecond, func(time.Duration) time.Duration { return 2 * Target })
	n := 0
	for i := range 50 { // all within one pace, much later, the queue still long
		if c.Drop(noon.Add(10*time.Second+time.Duration(i)*time.Microsecond), 2*Target) {
			n++
		}
	}
	if n > 1 {
		t.Errorf("%d drops in 50 us after a silence", n)
	}
}

func datagram(receiver uint32, counter uint64, size int) []byte {
	b := make([]byte, headerLen+size)
	binary.LittleEndian.PutUint32(b, transport)
	binary.LittleEndian.PutUint32(b[4:], receiver)
	binary.LittleEndian.PutUint64(b[8:], counter)
	return b
}

func TestTransitDropsWhatComesLate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		delay time.Duration
		want  bool
	}{
		{"late", 1400, 3 * time.Millisecond, true},
		{"in time", 1400, Target / 2, false},
		{"small packets", 100, 3 * time.Millisecond, false},
		{"a clock was set back", 1400, -time.Hour, false},
		{"a clock was set on", 1400, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tr Transit
			dropped := 0
			for i := range 1000 {
				in := noon.Add(time.Duration(i) * 100 * time.Microsecond)
				p := [][]byte{datagram(7, uint64(i), 64), datagram(7, uint64(i)+1<<40, tt.size)}
				for _, d := range p {
					tr.In(d, in)
				}
				which, drop := tr.Late(in.Add(tt.delay), p, headerLen)
				if drop {
					dropped++
				}
				if drop && which != 1 {
					t.Fatalf("packet %d dropped, which is small", which)
				}
			}
			if got := dropped > 0; got != tt.want {
				t.Errorf("%d of 1000 batches dropped one, want some: %t", dropped, tt.want)
			}
			if dropped > 100 {
				t.Errorf("%d of 1000 batches dropped one; that is no hint but a cut", dropped)
			}
		})
	}
}

func TestTransitIgnoresOthers(t *testing.T) {
	var tr Transit
	tr.In(nil, noon)
	tr.In([]byte{1, 0, 0, 0}, noon)
	tr.In(append([]byte{1}, datagram(1, 0, 500)[1:]...), noon) // an initiation
	late := noon.Add(time.Second)
	for i := range 100 {
		now := late.Add(time.Duration(i) * time.Millisecond)
		if _, drop := tr.Late(now, [][]byte{datagram(1, 0, 500)}, headerLen); drop {
			t.Fatal("dropped a packet that was never seen to come")
		}
		if _, drop := tr.Late(now, [][]byte{datagram(1, 0, 500)[6:]}, headerLen-6); drop {
			t.Fatal("dropped behind another header")
		}
	}
}

func TestTransitTellsSessionsApart(t *testing.T) {
	var tr Transit
	tr.In(datagram(1, 32, 500), noon)
	tr.In(datagram(2, 32, 500), noon.Add(time.Second))
	s1, s2 := slotOf(keyOf(datagram(1, 32, 0))), slotOf(keyOf(datagram(2, 32, 0)))
	if s1 == s2 {
		t.Error("sessions with equal counters share a slot")
	}
}

func BenchmarkTransit(b *testing.B) {
	var tr Transit
	p := make([][]byte, 128)
	for i := range p {
		p[i] = datagram(7, uint64(i), 1400)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range p {
			tr.In(d, noon)
		}
		tr.Late(noon, p, headerLen)
	}
}
