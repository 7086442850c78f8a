package history

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Whatever is done to lines in the middle shows, and where.
func TestCheckFindsChanges(t *testing.T) {
	whole := t.TempDir()
	for i := range 6 {
		mustAppend(t, whole, Event{At: noon, Kind: "k", Subject: fmt.Sprint("subject", i)})
	}
	text := readSegment(t, whole, 1)
	type lines = [][]byte
	for _, tt := range []struct {
		name string
		do   func(l lines) lines
		want string // "" means that it cannot be seen
	}{
		{"nothing", func(l lines) lines { return l }, ""},
		{"a word changed", func(l lines) lines { return edit(l, 2, "subject2", "subject9") }, ":4: does not match event 3 before it"},
		{"a time changed", func(l lines) lines { return edit(l, 2, "2026", "2025") }, ":4: does not match event 3 before it"},
		{"a space added", func(l lines) lines { return edit(l, 2, `"kind":`, `"kind": `) }, ":4: does not match event 3 before it"},
		{"a field added", func(l lines) lines { return edit(l, 2, `"kind":`, `"x":1,"kind":`) }, ":4: does not match event 3 before it"},
		{"the first changed", func(l lines) lines { return edit(l, 0, "subject0", "subject9") }, ":2: does not match event 1 before it"},
		{"the first removed", func(l lines) lines { return l[1:] }, ":1: is not the line that the segment began with"},
		{"one removed", func(l lines) lines { return slices.Delete(l, 3, 4) }, ":4: events 4 to 4 are missing before it"},
		{"several removed", func(l lines) lines { return slices.Delete(l, 1, 4) }, ":2: events 2 to 4 are missing before it"},
		{"one doubled", func(l lines) lines { return slices.Insert(l, 3, l[2]) }, ":4: event 3 stands behind event 3"},
		{"two swapped", func(l lines) lines { l[2], l[3] = l[3], l[2]; return l }, ":3: events 3 to 3 are missing before it"},
		{"one removed and the numbers mended", func(l lines) lines {
			return edit(edit(edit(slices.Delete(l, 2, 3), 2, `"seq":4`, `"seq":3`), 3, `"seq":5`, `"seq":4`), 4, `"seq":6`, `"seq":5`)
		}, ":3: does not match event 2 before it"},
		{"one made unreadable", func(l lines) lines { return edit(l, 2, `{"seq":3`, `#"seq":3`) }, ":3: not an event"},
		{"an empty line", func(l lines) lines { return slices.Insert(l, 3, []byte("\n")) }, ":4: not an event"},
		{"lines before the first", func(l lines) lines {
			return slices.Insert(l, 0, []byte(`{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","segment":1}`+"\n"))
		}, ":2: began a segment"},
		{"the last removed", func(l lines) lines { return l[:5] }, ""},
		{"the last changed", func(l lines) lines { return edit(l, 5, "subject5", "subject9") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			all := bytes.SplitAfter(bytes.Clone(text), []byte("\n"))
			writeSegment(t, dir, 1, bytes.Join(tt.do(all[:len(all)-1]), nil))
			wantCheck(t, dir, tt.want)
		})
	}
	t.Run("the last changed shows with the next", func(t *testing.T) {
		dir := t.TempDir()
		all := bytes.SplitAfter(bytes.Clone(text), []byte("\n"))
		writeSegment(t, dir, 1, text)
		mustAppend(t, dir, Event{Kind: "k"})
		next := bytes.SplitAfter(readSegment(t, dir, 1), []byte("\n"))[6]
		writeSegment(t, dir, 1, append(bytes.Join(edit(all, 5, "subject5", "subject9"), nil), next...))
		wantCheck(t, dir, ":7: does not match event 6 before it")
	})
}

// edit replaces a word of one line.
func edit(lines [][]byte, i int, old, with string) [][]byte {
	changed := bytes.Replace(lines[i], []byte(old), []byte(with), 1)
	if bytes.Equal(changed, lines[i]) {
		panic(fmt.Sprintf("no %q in %s", old, lines[i]))
	}
	lines[i] = changed
	return lines
}

// wantCheck wants damage whose first place is told so; "" wants none.
func wantCheck(t *testing.T, dir, want string) {
	t.Helper()
	err := Check(dir)
	if want == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	var damage *DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("error %v, want damage", err)
	}
	if got := damage.Places[0].String(); !strings.Contains(got, want) {
		t.Errorf("place %q, want %q", got, want)
	}
	if damage.NextStep() == "" || damage.Count < len(damage.Places) {
		t.Errorf("%d of %d places, next %q", len(damage.Places), damage.Count, damage.NextStep())
	}
}

func TestCheckSegments(t *testing.T) {
	remove := func(numbers ...int) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, n := range numbers {
				if err := os.Remove(segmentPath(dir, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, dir string)
		want string
	}{
		{"whole", remove(), ""},
		{"one in the middle removed", remove(3), "events-00000004.jsonl: 1 segments before it were removed"},
		{"the first two removed", remove(1, 2), "events-00000003.jsonl: the segments before it were removed, though there are only 2"},
		{"the newest removed", remove(4), ""}, // cannot be seen
		{"the oldest put in the place of another", func(t *testing.T, dir string) {
			writeSegment(t, dir, 3, readSegment(t, dir, 1))
		}, "events-00000003.jsonl:1: is not the line that the segment began with"},
		{"the head of the oldest removed", func(t *testing.T, dir string) {
			_, rest, _ := bytes.Cut(readSegment(t, dir, 1), []byte("\n"))
			writeSegment(t, dir, 1, rest)
		}, "events-00000001.jsonl:1: is not the line that the segment began with"},
		{"longer than a segment", func(t *testing.T, dir string) {
			writeSegment(t, dir, 4, append(readSegment(t, dir, 4), bytes.Repeat([]byte("x"), maxLine)...))
		}, "longer than the 4194304 bytes of a segment"},
		{"many places", func(t *testing.T, dir string) {
			writeSegment(t, dir, 2, bytes.ReplaceAll(readSegment(t, dir, 2), []byte("\n"), []byte("\n\n")))
		}, "events-00000002.jsonl:2: not an event"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, 4)
			tt.do(t, dir)
			wantCheck(t, dir, tt.want)
		})
	}
}

// Of a journal that is rotated, the oldest line points to one that is gone.
func TestCheckRotated(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, maxSegments)
	mustAppend(t, dir, largeEvent("new"))
	wantCheck(t, dir, "")
	_, rest, _ := bytes.Cut(readSegment(t, dir, 2), []byte("\n"))
	writeSegment(t, dir, 2, rest)
	wantCheck(t, dir, "events-00000002.jsonl:1: is not the line that the segment began with")
	if err := os.Remove(segmentPath(dir, 2)); err != nil {
		t.Fatal(err)
	}
	wantCheck(t, dir, "events-00000003.jsonl: the segments before it were removed, though there are only 7")
}
