package statedir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lockAgent   = "agent.lock"
	lockLedger  = "ledger.lock"
	tempPattern = ".tmp-*"
	// tempAge is how old a left-over temporary file must be to be nobody's.
	tempAge = time.Minute
	// ledgerPatience bounds the wait for a change by another process; such a
	// change takes a few fsyncs.
	ledgerPatience = 10 * time.Second
)

// LockedError says who holds the directory.
type LockedError struct {
	Path string
	PID  int // 0: not known
}

// Error names the process and the next step.
func (e *LockedError) Error() string {
	who := "another drawbridge process"
	if e.PID != 0 {
		who = fmt.Sprintf("the drawbridge process with pid %d", e.PID)
	}
	return fmt.Sprintf("lock state directory %s: %s uses it; stop that one first (systemctl stop drawbridge), or name another with --state-dir", e.Path, who)
}

// Lock takes the directory for this process: an agent, init or join. It does
// not wait; a taken lock is a [*LockedError]. The lock ends with release or
// with the process. Left-over temporary files of a crash are removed.
func (d *Dir) Lock() (release func() error, err error) {
	f, err := d.openLock(lockAgent)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock state directory %s: %w", d.path, err)
		}
		return nil, &LockedError{Path: d.path, PID: readPID(f)}
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory %s: %w", d.path, err), f.Close())
	}
	d.sweep()
	return func() error {
		// The file stays: removing it would let two processes lock two files.
		return errors.Join(f.Truncate(0), f.Close())
	}, nil
}

// Update runs f while no other goroutine or process changes tokens or
// addresses. It waits at most ten seconds for its turn. f must not call Update.
func (d *Dir) Update(f func() error) error {
	file, err := d.openLock(lockLedger)
	if err != nil {
		return err
	}
	defer file.Close() // unlocks
	ctx, cancel := context.WithTimeout(context.Background(), ledgerPatience)
	defer cancel()
	for {
		err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f()
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: another process holds it for more than %s; try again", file.Name(), ledgerPatience)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (d *Dir) openLock(name string) (*os.File, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return f, nil
}

// flock repeats the call when a signal interrupts it.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// sweep removes temporary files that a crash left behind.
func (d *Dir) sweep() {
	for _, dir := range []string{d.path, filepath.Join(d.path, dirTokens), filepath.Join(d.path, dirPending)} {
		names, err := filepath.Glob(filepath.Join(dir, tempPattern))
		if err != nil {
			continue
		}
		for _, name := range names {
			if st, err := os.Lstat(name); err == nil && time.Since(st.ModTime()) > tempAge {
				_ = os.Remove(name) // the next lock tries again
			}
		}
	}
}
