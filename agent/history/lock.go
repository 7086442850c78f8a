package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// patience bounds the wait for the turn to append; an append takes one fsync.
const patience = 2 * time.Second

// turn orders the goroutines of this process, first come first served; the
// file lock orders processes.
var turn = make(chan struct{}, 1)

// lock takes the right to append to the folder at path.
func lock(path string) (release func(), err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case turn <- struct{}{}:
	case <-late.C:
		return nil, fmt.Errorf("lock %s: other appends of this process take more than %s (slow disk?); try again", path, patience)
	}
	f, err := lockFile(filepath.Join(path, "lock"), late.C)
	if err != nil {
		<-turn
		return nil, err
	}
	return func() {
		f.Close() // unlocks
		<-turn
	}, nil
}

func lockFile(name string, late <-chan time.Time) (*os.File, error) {
	f, _, err := openFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-poll.C:
		case <-late:
			f.Close()
			return nil, fmt.Errorf("lock %s: another process holds it for more than %s; try again", name, patience)
		}
	}
}
