package stream

import (
	"testing"
	"time"
)

// TestWay walks through the life of a line: what happens to each datagram.
func TestWay(t *testing.T) {
	var w way
	at := time.Unix(1000, 0)
	after := func(d time.Duration) time.Time { at = at.Add(d); return at }
	want := func(now time.Time, d []byte, stream bool, c choice) {
		t.Helper()
		if got := w.out(now, d, stream); got != c {
			t.Fatalf("%d bytes of type %d at %s: %d, want %d", len(d), d[0], now.Sub(time.Unix(1000, 0)), got, c)
		}
	}
	const mine, theirs = 7, 9
	small, big := data(theirs, 1, 128), data(theirs, 2, 1312)

	want(at, initiation(mine), false, toUDP) // no stream yet: as if there were none
	w.up(after(time.Second))
	want(at, initiation(mine), true, toStream) // the first handshake does not wait
	w.brought(data(mine, 0, 128))
	want(after(4*time.Second), small, true, toStream)
	want(after(time.Second), big, true, toStream) // a trial takes a small one
	want(at, small, true, toTrial)
	want(after(100*time.Millisecond), big, true, toHold)
	if w.answered(at, data(99, 1, 128)) {
		t.Fatal("a stranger's datagram ended the trial")
	}
	w.holding = false // no answer
	want(after(time.Second), small, true, toStream)
	if w.answered(after(time.Second), data(mine, 1, 128)) {
		t.Fatal("an answer that comes too late ended the trial")
	}
	want(after(7*time.Second), small, true, toStream) // the wait has doubled
	want(after(3*time.Second), initiation(mine+1), true, toTrial)
	if !w.answered(after(30*time.Millisecond), data(mine, 2, 128)) {
		t.Fatal("the answer did not end the trial")
	}
	want(at, big, true, toUDP)
	if w.settled(after(2 * time.Second)) {
		t.Fatal("settled after two seconds")
	}
	w.answered(at, data(mine, 3, 128))
	want(at, big, true, toUDP)
	w.answered(after(1900*time.Millisecond), data(mine, 4, 128))
	if !w.settled(at) {
		t.Fatal("not settled")
	}
	want(at, big, true, toUDP)
	want(after(1900*time.Millisecond), big, true, toUDP)
	want(after(200*time.Millisecond), big, true, toStream) // it fell silent
	if w.settled(at) {
		t.Fatal("settled, though silent")
	}
	for gap := 40 * time.Second; gap <= 160*time.Second; gap *= 2 { // and the wait grows on
		want(after(gap-time.Second), small, true, toStream)
		want(after(time.Second), small, true, toTrial)
		w.holding = false
	}
	want(after(trialMost-time.Second), small, true, toStream)
	want(after(time.Second), small, true, toTrial)
}

// TestWayIdle: UDP that nobody uses has not fallen silent.
func TestWayIdle(t *testing.T) {
	w := way{udp: true, since: time.Unix(1000, 0)}
	w.judge(time.Unix(2000, 0))
	if !w.settled(time.Unix(2000, 0)) {
		t.Error("given up, though nothing was sent")
	}
}
