package stream

import "time"

const (
	// trialFirst is the wait before the first trial of UDP, and from then on the
	// wait doubles up to trialMost.
	trialFirst = 5 * time.Second
	trialMost  = 5 * time.Minute
	// trialAgain is the least wait after UDP that worked has fallen silent.
	trialAgain = 30 * time.Second
	// trialHold is how long datagrams wait for the answer to a trial; an answer
	// counts for as long as trialGrace.
	trialHold  = 250 * time.Millisecond
	trialGrace = time.Second
	// maxHeld bounds the bytes that wait.
	maxHeld = 32 << 10
	// smallTrial bounds the datagram that a trial is made with.
	smallTrial = 256
	// udpSilent is how long UDP may bring nothing while datagrams go out by it.
	udpSilent = 2 * time.Second
	// udpSteady is how long UDP must have worked to be said to work.
	udpSteady = 3 * time.Second
)

// choice is what to do with a datagram of the device.
type choice int

const (
	toStream choice = iota
	toUDP
	toTrial // by UDP, and a copy is held
	toHold
)

// way decides how datagrams travel. It is pure: the caller sends, holds and
// flushes.
type way struct {
	udp     bool
	fell    bool          // it did, and fell silent
	since   time.Time     // of udp
	next    time.Time     // trial; zero: no stream was up yet
	gap     time.Duration // between trials
	began   time.Time     // the last trial
	holding bool
	sent    time.Time // first datagram by UDP since UDP brought one; zero: none

	mine [4][4]byte // the own sessions' last indexes, as the peer addresses them
	at   int
}

// up notes that a stream stands.
func (w *way) up(now time.Time) {
	if w.next.IsZero() {
		w.gap = trialFirst
		w.next = now.Add(w.gap)
	}
}

// hasten makes the next trial due, unless UDP failed here after it had worked.
func (w *way) hasten(now time.Time) {
	if !w.udp && !w.fell && !w.next.IsZero() {
		w.next, w.gap = now, trialFirst
	}
}

// out chooses for a datagram of the device.
func (w *way) out(now time.Time, d []byte, stream bool) choice {
	w.know(d, true)
	w.judge(now)
	switch {
	case w.udp || !stream:
		if w.sent.IsZero() {
			w.sent = now
		}
		return toUDP
	case w.holding:
		return toHold
	case w.due(now, d):
		w.began, w.holding = now, true
		w.gap = min(2*w.gap, trialMost)
		w.next = now.Add(w.gap)
		return toTrial
	}
	return toStream
}

func (w *way) due(now time.Time, d []byte) bool {
	return !w.next.IsZero() && !now.Before(w.next) && (d[0] == typeInitiation || d[0] == typeData && len(d) <= smallTrial)
}

// judge gives UDP up when it has fallen silent.
func (w *way) judge(now time.Time) {
	if w.udp && !w.sent.IsZero() && now.Sub(w.sent) > udpSilent {
		w.udp, w.fell, w.since, w.sent = false, true, time.Time{}, time.Time{}
		w.gap = min(max(2*w.gap, trialAgain), trialMost)
		w.next = now.Add(w.gap)
	}
}

// answered notes a datagram that UDP brought, and reports whether it ended a
// trial: all goes by UDP from now on.
func (w *way) answered(now time.Time, d []byte) bool {
	if !w.known(d) {
		return false
	}
	w.sent = time.Time{}
	if w.udp || w.began.IsZero() || now.Sub(w.began) > trialGrace {
		return false
	}
	w.udp, w.since, w.holding = true, now, false
	return true
}

// brought notes a datagram that the stream brought.
func (w *way) brought(d []byte) { w.know(d, false) }

// settled reports whether UDP has worked for a while.
func (w *way) settled(now time.Time) bool { return w.udp && now.Sub(w.since) >= udpSteady }

// know remembers the index of an own session. Whoever cannot read the path
// does not know it, so a forged datagram is no answer.
func (w *way) know(d []byte, out bool) {
	if out == (d[0] == typeData) || d[0] == typeCookie {
		return // the peer's index, or none
	}
	i := [4]byte(d[4:8]) // sender of a handshake, receiver of data
	for _, m := range w.mine {
		if m == i {
			return
		}
	}
	w.at = (w.at + 1) % len(w.mine)
	w.mine[w.at] = i
}

// known: the datagram is for one of the own sessions.
func (w *way) known(d []byte) bool {
	var i [4]byte
	switch d[0] {
	case typeData, typeCookie:
		copy(i[:], d[4:8])
	case typeResponse:
		copy(i[:], d[8:12])
	default:
		return false
	}
	for _, m := range w.mine {
		if m == i && i != [4]byte{} {
			return true
		}
	}
	return false
}
