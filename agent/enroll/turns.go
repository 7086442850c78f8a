package enroll

import (
	"slices"
	"sync"
	"time"
)

// workRate bounds the work for strangers, in seconds of CPU time: on average
// this share of one core, whatever a handshake costs here.
var workRate = rate{perSecond: 0.3, burst: 0.1}

const (
	// acceptCost is what a connection costs until its ClientHello is here, or
	// it is turned away.
	acceptCost = 60 * time.Microsecond
	// maxTurn is when the next may begin all the same: the one before waits
	// for a disk or a lock, and does not compute.
	maxTurn = 25 * time.Millisecond
	// ioCost is what the kernel and the scheduler take for a read or a write.
	ioCost = 20 * time.Microsecond
)

// turnstile lets the work for strangers through one at a time, so that it
// never has more than one core, and charges what it used to one bucket. The
// next turn is for the network for which least was done of late, then for who
// got furthest, then for who waits longest. The zero value is ready.
type turnstile struct {
	mu      sync.Mutex // guards all below
	credit  bucket
	waiting []*turn
	held    *turn
	timer   *time.Timer
}

// turn is one guest's. It is used again and again, by one goroutine.
type turn struct {
	load  float64
	phase phase
	ready chan struct{} // one token: the turn has come
	began time.Time
}

func newTurn() *turn { return &turn{ready: make(chan struct{}, 1)} }

// take waits for the turn; false when it has not come before late or gone fired.
func (t *turnstile) take(w *turn, late <-chan time.Time, gone <-chan struct{}) bool {
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.next(time.Now())
	t.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-late:
	case <-gone:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return false
	}
	<-w.ready // in the same moment
	t.end(w, 0, time.Now())
	return false
}

// give ends a turn, or work without one, and books the CPU time that it used.
func (t *turnstile) give(w *turn, used time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(w, used+ioCost, time.Now())
}

// charge books CPU time that was used without asking.
func (t *turnstile) charge(used time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(nil, used, time.Now())
}

func (t *turnstile) end(w *turn, used time.Duration, now time.Time) {
	t.credit.left(workRate, now)
	t.credit.credit -= used.Seconds()
	if w != nil && t.held == w {
		t.held = nil
		t.next(now)
	}
}

// next begins turns, or sets the timer for when the next can begin.
func (t *turnstile) next(now time.Time) {
	for len(t.waiting) > 0 {
		if t.held != nil {
			if rest := maxTurn - now.Sub(t.held.began); rest > 0 {
				t.wake(rest)
				return
			}
			t.held = nil
		}
		if d := t.credit.until(0, workRate, now); d > 0 {
			t.wake(d)
			return
		}
		i := t.first()
		w := t.waiting[i]
		t.waiting = slices.Delete(t.waiting, i, i+1)
		w.began = now
		t.held = w
		w.ready <- struct{}{}
	}
}

// first is the index of whose turn it is.
func (t *turnstile) first() int {
	best := 0
	for i, w := range t.waiting {
		b := t.waiting[best]
		if w.load < b.load || w.load == b.load && w.phase > b.phase {
			best = i
		}
	}
	return best
}

func (t *turnstile) wake(d time.Duration) {
	if t.timer != nil {
		t.timer.Reset(d)
		return
	}
	t.timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.next(time.Now())
	})
}
