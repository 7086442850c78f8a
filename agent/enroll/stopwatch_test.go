package enroll

import (
	"runtime"
	"testing"
	"time"
)

func TestStopwatch(t *testing.T) {
	var s stopwatch
	if _, _, ok := s.stop(); ok {
		t.Error("it never started")
	}
	runtime.LockOSThread() // as it is nearly always, without
	defer runtime.UnlockOSThread()
	s.start()
	time.Sleep(20 * time.Millisecond)
	took, used, ok := s.stop()
	if !ok || took < 20*time.Millisecond || used > took {
		t.Errorf("sleep: took %s, used %s", took, used)
	}
	if runtime.GOOS == "linux" && used > took/2 {
		t.Errorf("waiting counts as work: %s of %s", used, took)
	}
	s.start()
	for begin, n := time.Now(), 0; time.Since(begin) < 20*time.Millisecond; n++ {
	}
	if took, used, _ := s.stop(); used <= 0 || used > took {
		t.Errorf("work: took %s, used %s", took, used)
	}
	if _, _, ok := s.stop(); ok {
		t.Error("it goes on")
	}
}
