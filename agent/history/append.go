package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Append writes one event to the journal of the state directory dir, which
// must exist; Seq is given, At filled in when it is zero. When it returns nil
// the event is on the disk. It waits at most two seconds for other writers,
// and as long as the disk takes for an fsync. After an error (no space, disk
// read-only, not the owner) nothing was written, as far as the disk still
// obeys, and the caller decides whether to go on.
//
// A line that a crash left unfinished is cut off, and an event of kind
// "history" says so.
func Append(dir string, e Event) error {
	now := time.Now()
	e, err := e.clean(now)
	if err != nil {
		return fmt.Errorf("keep event: %w", err)
	}
	path, err := openOrMake(dir)
	if err != nil {
		return fmt.Errorf("keep %s event: %w", e.Kind, err)
	}
	release, err := lock(path)
	if err != nil {
		return fmt.Errorf("keep %s event: %w", e.Kind, err)
	}
	defer release()
	if err := write(path, e, now); err != nil {
		return fmt.Errorf("keep %s event: %w", e.Kind, err)
	}
	return nil
}

// write adds e behind the end of the journal. The lock is held.
func write(path string, e Event, now time.Time) error {
	segs, err := segments(path)
	if err != nil {
		return err
	}
	at, err := findEnd(path, segs)
	if err != nil {
		return err
	}
	events := append(at.notes(e.Actor, now), e)
	if len(at.torn) > 0 {
		if err := cut(path, at); err != nil {
			return err
		}
	}
	if at.number == 0 || at.full {
		at = at.next()
	}
	text, err := at.encode(events)
	if err != nil {
		return err
	}
	if at.size > 0 && at.size+int64(len(text)) > maxSegment {
		at = at.next()
		if text, err = at.encode(events); err != nil {
			return err
		}
	}
	if at.number > maxNumber {
		return fmt.Errorf("%s holds a segment with the last number there is; move it away", path)
	}
	if err := add(filepath.Join(path, segmentName(at.number)), at.size, text); err != nil {
		return err
	}
	if at.size > 0 {
		return nil
	}
	// A segment was begun: its name must last, and the oldest makes room.
	return errors.Join(explain(syncDir(path)), prune(path))
}

// prune removes the oldest segments beyond the bound.
func prune(path string) error {
	segs, err := segments(path)
	if err != nil {
		return err
	}
	for _, old := range segs[:max(0, len(segs)-maxSegments)] {
		if err := os.Remove(filepath.Join(path, segmentName(old))); err != nil {
			return explain(err)
		}
	}
	return nil
}

// cut takes an unfinished line off the newest segment.
func cut(path string, e end) error {
	f, _, err := openFile(filepath.Join(path, segmentName(e.number)), os.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(e.size); err != nil {
		return explain(err)
	}
	return f.Sync()
}

// add appends text to the file that is size bytes long, durably, in one write.
func add(name string, size int64, text []byte) error {
	f, _, err := openFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		// Half a line would be cut off by the next append anyway; a whole line
		// that may not be on the disk would be a false promise.
		return errors.Join(explain(err), f.Truncate(size))
	}
	return nil
}
