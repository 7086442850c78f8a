package enroll

import "time"

// stopwatch measures a piece of work by the goroutine that starts it.
type stopwatch struct {
	began  time.Time // zero: stopped
	thread int
	cpu    time.Duration
}

func (s *stopwatch) start() {
	s.began = time.Now()
	s.thread, s.cpu = threadTime()
}

// movedCost is what a piece of work counts for at most when the scheduler
// moved it to another thread, as it does when a disk keeps it waiting on a
// busy host: more than any question costs here.
const movedCost = 3 * time.Millisecond

// stop returns how long the work took, and what CPU time it used, which is
// that of the thread; false when there was none.
func (s *stopwatch) stop() (took, used time.Duration, ok bool) {
	if s.began.IsZero() {
		return 0, 0, false
	}
	took = time.Since(s.began)
	if thread, cpu := threadTime(); thread == s.thread {
		used = min(took, cpu-s.cpu)
	} else {
		used = min(took, movedCost)
	}
	s.began = time.Time{}
	return took, used, true
}
