package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadFilters(t *testing.T) {
	dir := t.TempDir()
	for i, e := range []Event{
		{Kind: "token-created", Subject: "a", Actor: "user alice"},
		{Kind: "token-used", Subject: "a", Actor: "node 3f9a gpu-1 from 203.0.113.9"},
		{Kind: "certificate-issued", Subject: "gpu-1", Actor: "agent gw-a"},
		{Kind: "certificate-issued", Subject: "gpu-10", Actor: "agent gw-a"},
		{Kind: "revoked", Subject: "gpu-1", Actor: "user alice via sudo"},
	} {
		e.At, e.To = noon.Add(time.Duration(i)*time.Minute), fmt.Sprint(i)
		mustAppend(t, dir, e)
	}
	for _, tt := range []struct {
		name string
		f    Filter
		want string
	}{
		{"all", Filter{}, "01234"},
		{"last", Filter{Last: 2}, "34"},
		{"more than there are", Filter{Last: MaxLast + 1}, "01234"},
		{"kind", Filter{Kinds: []string{"revoked", "token-used"}}, "14"},
		{"kind, last", Filter{Kinds: []string{"certificate-issued"}, Last: 1}, "3"},
		{"subject is exact", Filter{Subject: "gpu-1"}, "24"},
		{"actor is a part", Filter{Actor: "alice"}, "04"},
		{"since", Filter{Since: noon.Add(3 * time.Minute)}, "34"},
		{"until", Filter{Until: noon.Add(3 * time.Minute)}, "012"},
		{"between", Filter{Since: noon.Add(time.Minute), Until: noon.Add(2 * time.Minute)}, "1"},
		{"all at once", Filter{Since: noon, Kinds: []string{"revoked"}, Subject: "gpu-1", Actor: "sudo", Last: 5}, "4"},
		{"none", Filter{Subject: "nobody"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := Read(dir, tt.f)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, e := range list {
				got.WriteString(e.To)
			}
			if got.String() != tt.want {
				t.Errorf("events %q, want %q", got.String(), tt.want)
			}
		})
	}
}

func TestReadNothing(t *testing.T) {
	dir := t.TempDir()
	if list, err := Read(dir, Filter{}); len(list) > 0 || err != nil {
		t.Errorf("no journal: %v, %v", list, err)
	}
	mustCheck(t, dir)
	if err := os.Mkdir(filepath.Join(dir, folder), dirMode); err != nil {
		t.Fatal(err)
	}
	if list, err := Read(dir, Filter{}); len(list) > 0 || err != nil {
		t.Errorf("empty journal: %v, %v", list, err)
	}
	mustCheck(t, dir)
	missing := filepath.Join(dir, "missing")
	if _, err := Read(missing, Filter{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("no state directory: %v", err)
	}
	if err := Check(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no state directory: %v", err)
	}
}

func TestSubjects(t *testing.T) {
	const id = "77c0de1212345678901234567890abcd"
	for _, tt := range []struct {
		subject, word string
		want          bool
	}{
		{"gpu-1", "gpu-1", true},
		{"gpu-1", "gpu", false},
		{"gpu-10", "gpu-1", false},
		{id + " gpu-1", "gpu-1", true},
		{id + " gpu-1", id, true},
		{id + " gpu-1", "77c0de12", true},
		{id + " gpu-1", "77c0de1", false}, // too short to be an id
		{id + " gpu-1", id + " gpu-1", true},
		{"a name of several words", "a name of several words", true},
		{"long-name-that-is-no-identity-0123456789", "long-name", false},
		{"", "gpu-1", false},
	} {
		if got := isAbout(tt.subject, tt.word); got != tt.want {
			t.Errorf("%q is about %q: %t", tt.subject, tt.word, got)
		}
	}
}

// The newest events of several segments come in order, and no more than asked.
func TestReadAcrossSegments(t *testing.T) {
	dir := t.TempDir()
	last := fill(t, dir, 2)
	for _, n := range []int{0, 1, 999, int(last)} {
		list, err := Read(dir, Filter{Last: n})
		if err != nil {
			t.Fatal(err)
		}
		want := n
		if n == 0 {
			want = DefaultLast
		}
		if len(list) != want || list[0].Seq != last-uint64(want)+1 || list[want-1].Seq != last {
			t.Errorf("last %d: %d events, %d to %d", n, len(list), list[0].Seq, list[len(list)-1].Seq)
		}
	}
}

func TestReadPassesOverDamage(t *testing.T) {
	dir := t.TempDir()
	var lines [][]byte
	for i := range 5 {
		mustAppend(t, dir, Event{At: noon, Kind: "k", Subject: fmt.Sprint(i)})
	}
	lines = bytes.SplitAfter(readSegment(t, dir, 1), []byte("\n"))
	lines[1] = []byte("rubbish\n")
	lines[3] = append(bytes.Repeat([]byte("x"), 5*maxLine), '\n')
	writeSegment(t, dir, 1, bytes.Join(lines, nil))
	list, err := Read(dir, Filter{})
	if got := subjects(list); got != "0 2 4" {
		t.Errorf("events %q", got)
	}
	var damage *DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("error %v", err)
	}
	want := &DamageError{Dir: filepath.Join(dir, folder), Count: 2, Places: []Damage{
		{File: "events-00000001.jsonl", Line: 2, What: "not an event: invalid character 'r' looking for beginning of value"},
		{File: "events-00000001.jsonl", Line: 4, What: "longer than the 4096 bytes of a line"},
	}}
	if diff := cmp.Diff(want, damage); diff != "" {
		t.Errorf("damage (-want +got):\n%s", diff)
	}
	if got, want := err.Error(), " is damaged in 2 places: events-00000001.jsonl:2: not an event"; !strings.Contains(got, want) {
		t.Errorf("error %q, want %q", got, want)
	}
}

// A line in the making is not seen; one without an end in an older segment is
// damage.
func TestReadUnfinished(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 2)
	f, err := os.OpenFile(segmentPath(dir, 2), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(`{"seq":99,"at"`); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, Filter{}); err != nil {
		t.Error(err)
	}
	mustCheck(t, dir)
	writeSegment(t, dir, 3, nil)
	var damage *DamageError
	if _, err := Read(dir, Filter{}); !errors.As(err, &damage) || damage.Count != 1 || damage.Places[0].What != "the line has no end" {
		t.Errorf("error %v", err)
	}
}
