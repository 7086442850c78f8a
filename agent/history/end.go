package history

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// How far back the end of a segment is read: enough for a line and a torn one,
// and further only when that shows no event.
const (
	shortTail = 2 * maxLine
	maxTail   = 64 << 10
)

// end is where a journal ends, and in what shape.
type end struct {
	number int    // of the newest segment; 0: there is none
	size   int64  // of the newest segment up to its last whole line
	full   bool   // the newest segment cannot be continued
	seq    uint64 // of the last event
	hash   string // of the last line
	// What a crash or somebody left in the newest segment.
	torn    []byte // behind the last whole line
	damaged uint64 // last lines that are no events
}

// findEnd reads the tail of the newest segment; all of it, and older ones, only
// as long as no event is found.
func findEnd(path string, segs []int) (end, error) {
	var e end
	for i := len(segs) - 1; i >= 0 && e.seq == 0; i-- {
		t, err := readTail(filepath.Join(path, segmentName(segs[i])))
		if err != nil {
			return end{}, err
		}
		if i == len(segs)-1 {
			e.number, e.size, e.full, e.torn, e.damaged = segs[i], t.size, t.full, t.torn, t.damaged
		}
		if e.hash == "" {
			e.hash = t.hash
		}
		if t.seq == 0 {
			t.seq, err = lastSeq(filepath.Join(path, segmentName(segs[i])))
		}
		if err != nil {
			return end{}, err
		}
		if t.seq > 0 {
			e.seq = t.seq + e.damaged
		}
	}
	return e, nil
}

// readTail looks at the end of one segment; seq is that of its last readable
// event.
func readTail(name string) (end, error) {
	f, st, err := openFile(name, os.O_RDONLY)
	if err != nil {
		return end{}, err
	}
	defer f.Close()
	var e end
	for _, n := range []int64{shortTail, maxTail} {
		n = min(n, st.Size())
		tail := make([]byte, n)
		if _, err := f.ReadAt(tail, st.Size()-n); err != nil && !errors.Is(err, io.EOF) {
			return end{}, err
		}
		if e = endOf(tail, st.Size()); e.seq > 0 {
			break
		}
	}
	return e, nil
}

// endOf understands the last bytes of a segment that is size bytes long.
func endOf(tail []byte, size int64) end {
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == 0 && int64(len(tail)) < size {
		// Nothing of ours is that long. It stays, for people to look at.
		return end{size: size, full: true, damaged: 1}
	}
	e := end{size: size - int64(len(tail)-whole), torn: tail[whole:]}
	for rest := tail[:whole]; len(rest) > 0; {
		start := bytes.LastIndexByte(rest[:len(rest)-1], '\n') + 1
		raw := rest[start : len(rest)-1]
		if e.hash == "" {
			e.hash = hashOf(raw)
		}
		if l, err := decode(raw); err == nil {
			e.seq = l.Seq
			return e
		}
		e.damaged++
		rest = rest[:start]
	}
	return e
}

// lastSeq reads a segment whose tail holds no event; 0: nor does the rest.
func lastSeq(name string) (seq uint64, err error) {
	err = scan(name, true, func(_ int, raw []byte, err error) {
		if err != nil {
			return
		}
		if l, err := decode(raw); err == nil {
			seq = l.Seq
		}
	})
	return seq, err
}

// next is the end after a new segment was begun.
func (e end) next() end {
	return end{number: e.number + 1, seq: e.seq, hash: e.hash}
}

// encode returns events as the next lines.
func (e end) encode(events []Event) ([]byte, error) {
	var text []byte
	for _, ev := range events {
		l := line{Event: ev, Prev: e.hash}
		if e.size == 0 && len(text) == 0 {
			l.Segment = e.number
		}
		l.Seq = e.seq + 1
		raw, err := l.encode()
		if err != nil {
			return nil, err
		}
		e.seq, e.hash = l.Seq, hashOf(raw[:len(raw)-1])
		text = append(text, raw...)
	}
	return text, nil
}

// notes are events about what was found at the end, for the next append to
// write before its own.
func (e end) notes(actor string, now time.Time) []Event {
	var list []Event
	note := func(reason string, detail map[string]string) {
		detail["segment"] = segmentName(e.number)
		at := now.UTC().Truncate(time.Microsecond)
		list = append(list, Event{At: at, Kind: KindHistory, Subject: subjectJournal, Reason: reason, Actor: actor, Detail: detail})
	}
	if e.damaged > 0 {
		note("damaged-lines", map[string]string{"lines": strconv.FormatUint(e.damaged, 10)})
	}
	if len(e.torn) > 0 {
		note("torn-line", map[string]string{"bytes": strconv.Itoa(len(e.torn)), "hash": hashOf(e.torn)})
	}
	return list
}
