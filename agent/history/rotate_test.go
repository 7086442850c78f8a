package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill writes a journal of segments, as appends would without their fsyncs:
// the last one has no room for another largeEvent, those before are short, to
// make it quick. It returns the number of the last event.
func fill(t *testing.T, dir string, segs int) (last uint64) {
	t.Helper()
	for i, text := range makeJournal(segs, 20*maxLine, largeEvent("")) {
		writeSegment(t, dir, i+1, text)
		last += uint64(bytes.Count(text, []byte("\n")))
	}
	return last
}

// makeJournal makes segments of the given size, the last one as large as may be.
func makeJournal(segs, size int, ev Event) (texts [][]byte) {
	e := end{number: 1}
	var text []byte
	for e.number <= segs {
		if e.number == segs {
			size = maxSegment
		}
		ev.At, ev.Subject = noon, fmt.Sprint(e.seq+1)
		raw, err := e.encode([]Event{ev})
		if err != nil {
			panic(err)
		}
		if len(text)+len(raw) > size {
			texts, text, e = append(texts, text), nil, e.next()
			continue
		}
		text = append(text, raw...)
		e.seq, e.hash, e.size = e.seq+1, hashOf(raw[:len(raw)-1]), int64(len(text))
	}
	return texts
}

func largeEvent(subject string) Event {
	e := Event{Kind: "k", Subject: subject, Detail: map[string]string{}}
	for i := range maxDetails {
		e.Detail[fmt.Sprint(i)] = strings.Repeat("x", 200)
	}
	return e
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	last := fill(t, dir, maxSegments)
	mustCheck(t, dir)
	mustAppend(t, dir, largeEvent("new"))
	mustCheck(t, dir)
	segs, err := segments(filepath.Join(dir, folder))
	if diff := cmp.Diff([]int{2, 3, 4, 5, 6, 7, 8, 9}, segs); diff != "" || err != nil {
		t.Errorf("segments (-want +got), %v:\n%s", err, diff)
	}
	list := mustRead(t, dir)
	if e := list[len(list)-1]; e.Seq != last+1 || e.Subject != "new" {
		t.Errorf("last event %d %q, want %d", e.Seq, e.Subject, last+1)
	}
	for i, e := range list[1:] {
		if e.Seq != list[i].Seq+1 {
			t.Fatalf("event %d follows %d", e.Seq, list[i].Seq)
		}
	}
	var size int64
	for _, n := range segs {
		st, err := os.Stat(segmentPath(dir, n))
		if err != nil || st.Size() > maxSegment {
			t.Errorf("segment %d: %v, %v", n, st.Size(), err)
		}
		size += st.Size()
	}
	if size > maxSegments*maxSegment {
		t.Errorf("%d bytes altogether", size)
	}
}

// A crash between the birth of a segment and its first line, or before the
// oldest is removed, is no damage.
func TestRotationCrashes(t *testing.T) {
	dir := t.TempDir()
	last := fill(t, dir, maxSegments)
	writeSegment(t, dir, maxSegments+1, nil)
	mustCheck(t, dir)
	for i := range 3 {
		mustAppend(t, dir, Event{Kind: "k", Subject: fmt.Sprint("new", i)})
	}
	mustCheck(t, dir)
	segs, err := segments(filepath.Join(dir, folder))
	if diff := cmp.Diff([]int{2, 3, 4, 5, 6, 7, 8, 9}, segs); diff != "" || err != nil {
		t.Errorf("segments (-want +got), %v:\n%s", err, diff)
	}
	if list := mustRead(t, dir); list[len(list)-1].Seq != last+3 {
		t.Errorf("last event %d, want %d", list[len(list)-1].Seq, last+3)
	}
}
