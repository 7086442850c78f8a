package enroll

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the CPU time that this thread has used, and which it is.
func threadTime() (thread int, cpu time.Duration) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return -1, 0 // cannot be, with these arguments
	}
	return unix.Gettid(), time.Duration(t.Nano())
}
