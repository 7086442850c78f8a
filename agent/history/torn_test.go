package history

import (
	"bytes"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Wherever a crash cut the last line, it is taken off whole, told, and nothing
// before it is lost.
func TestTornLine(t *testing.T) {
	whole := t.TempDir()
	for _, s := range []string{"one", "two", "three"} {
		mustAppend(t, whole, Event{At: noon, Kind: "k", Subject: s})
	}
	text := readSegment(t, whole, 1)
	start := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for n := start; n < len(text); n++ {
		dir := t.TempDir()
		writeSegment(t, dir, 1, text[:n])
		if got := subjects(mustRead(t, dir)); got != "one two" {
			t.Fatalf("cut at %d: before the next append %q", n, got)
		}
		mustCheck(t, dir)
		mustAppend(t, dir, Event{Kind: "k", Subject: "four", Actor: "user alice"})
		want := "one two torn-line four"
		if n == start {
			want = "one two four"
		}
		list := mustRead(t, dir)
		if got := subjects(list); got != want {
			t.Fatalf("cut at %d: %q, want %q", n, got, want)
		}
		mustCheck(t, dir)
		if n == start {
			continue
		}
		note := list[2]
		detail := map[string]string{"segment": "events-00000001.jsonl", "bytes": strconv.Itoa(n - start), "hash": hashOf(text[start:n])}
		if diff := cmp.Diff(Event{Seq: 3, At: note.At, Kind: KindHistory, Subject: "journal", Reason: "torn-line", Actor: "user alice", Detail: detail}, note); diff != "" {
			t.Fatalf("cut at %d: note (-want +got):\n%s", n, diff)
		}
	}
}

// The very first line can be torn, too; so can that of a later segment.
func TestTornFirstLine(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, dir, Event{Kind: "k", Subject: "one"})
	text := readSegment(t, dir, 1)
	for _, n := range []int{0, 1, len(text) - 1} {
		first, second := t.TempDir(), t.TempDir()
		writeSegment(t, first, 1, text[:n])
		writeSegment(t, second, 1, text)
		writeSegment(t, second, 2, text[:n])
		for dir, want := range map[string]string{first: "torn-line two", second: "one torn-line two"} {
			if n == 0 {
				want = strings.Replace(want, "torn-line ", "", 1)
			}
			mustAppend(t, dir, Event{Kind: "k", Subject: "two"})
			if got := subjects(mustRead(t, dir)); got != want {
				t.Errorf("cut at %d: %q, want %q", n, got, want)
			}
			mustCheck(t, dir)
		}
	}
}

// After damage that is no crash's, the journal goes on, tells it once, and
// Check keeps telling.
func TestAppendAfterDamage(t *testing.T) {
	whole := t.TempDir()
	for _, s := range []string{"one", "two", "three"} {
		mustAppend(t, whole, Event{At: noon, Kind: "k", Subject: s})
	}
	text := readSegment(t, whole, 1)
	start := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	zeros := bytes.Clone(text)
	clear(zeros[start : len(zeros)-1])
	for _, tt := range []struct {
		name, want string
		text       []byte
		segments   int
	}{
		{"last line zeroed", "one two damaged-lines four five", zeros, 1},
		{"all lines are rubbish", "damaged-lines four five", []byte("rubbish\nrubbish\n"), 1},
		{"rubbish without a line", "torn-line four five", []byte("rubbish"), 1},
		{"long rubbish at the end", "one two three torn-line four five", append(bytes.Clone(text), bytes.Repeat([]byte("x"), 2*maxLine)...), 1},
		{"no line in the tail", "one two three damaged-lines four five", append(bytes.Clone(text), bytes.Repeat([]byte("x"), maxTail+1)...), 2},
		{"longer than a segment", "one two three torn-line four five", append(bytes.Clone(text), append(bytes.Repeat([]byte(strings.Repeat("x", 1023)+"\n"), maxSegment>>10), 'x')...), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeSegment(t, dir, 1, tt.text)
			for _, s := range []string{"four", "five"} {
				mustAppend(t, dir, Event{Kind: "k", Subject: s})
			}
			list, err := Read(dir, Filter{Last: MaxLast})
			var damage *DamageError
			damaged := strings.Contains(tt.want, "damaged") || tt.name == "longer than a segment"
			if errors.As(err, &damage) != damaged {
				t.Errorf("read: %v", err)
			}
			if errors.As(Check(dir), &damage) != damaged {
				t.Errorf("check: %v", Check(dir))
			}
			got := strings.Replace(subjects(list), "damaged-lines torn-line", "torn-line", 1)
			if got != tt.want {
				t.Errorf("events %q, want %q", got, tt.want)
			}
			if e := list[2]; tt.name == "last line zeroed" && e.Seq != 4 {
				t.Errorf("event %d after the damaged one, want 4: its own number is not given twice", e.Seq)
			}
			for i, e := range list[1:] {
				if e.Seq <= list[i].Seq {
					t.Errorf("event %d after %d", e.Seq, list[i].Seq)
				}
			}
			segs, err := segments(filepath.Join(dir, folder))
			if err != nil || len(segs) != tt.segments {
				t.Errorf("segments %v, %v", segs, err)
			}
		})
	}
}
