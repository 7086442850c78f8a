package history

import (
	"context"
	"maps"
	"strconv"
	"sync/atomic"
	"time"
)

// maxQueue bounds the events that wait for the disk.
const maxQueue = 256

// Log is a journal for loops that must not wait for a disk: Append only
// queues, and [Log.Run] writes. What no disk took is counted, and an event of
// kind "history" tells the number as soon as one does.
type Log struct {
	dir   string
	queue chan Event
	lost  atomic.Int64
}

// Open names the journal of the state directory dir. It touches nothing.
func Open(dir string) *Log { return &Log{dir: dir, queue: make(chan Event, maxQueue)} }

// Append queues one event and returns at once. It may be called before, while
// and after Run runs; what comes after is lost.
func (l *Log) Append(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.Detail = maps.Clone(e.Detail) // ours while it waits
	select {
	case l.queue <- e:
	default:
		l.lost.Add(1)
	}
}

// Run writes queued events until ctx ends, then those that are left, and
// returns nil. Errors go to failed, with the event that was lost.
func (l *Log) Run(ctx context.Context, failed func(Event, error)) error {
	for ctx.Err() == nil {
		select {
		case e := <-l.queue:
			l.write(e, failed)
		case <-ctx.Done():
		}
	}
	for range len(l.queue) {
		if !l.write(<-l.queue, failed) {
			return nil // a disk that takes nothing shall not hold the end up
		}
	}
	l.tellLost()
	return nil
}

func (l *Log) write(e Event, failed func(Event, error)) bool {
	l.tellLost()
	err := Append(l.dir, e)
	if err != nil {
		l.lost.Add(1)
		failed(e, err)
	}
	return err == nil
}

// tellLost writes how many events were lost, if any were.
func (l *Log) tellLost() {
	n := l.lost.Swap(0)
	if n == 0 {
		return
	}
	note := Event{Kind: KindHistory, Subject: subjectJournal, Reason: "events-lost", Detail: map[string]string{"events": strconv.FormatInt(n, 10)}}
	if err := Append(l.dir, note); err != nil {
		l.lost.Add(n)
	}
}
