package history

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestSegmentNumber(t *testing.T) {
	for name, want := range map[string]int{
		"events-00000001.jsonl": 1, "events-99999999.jsonl": 99_999_999,
		"events-00000000.jsonl": 0, "events-1.jsonl": 0, "events-000000001.jsonl": 0, "events-+0000001.jsonl": 0, "events--0000001.jsonl": 0,
		"events-00000001.jsonl.gz": 0, "00000001": 0, "lock": 0, "": 0,
	} {
		if got := segmentNumber(name); got != want {
			t.Errorf("%q is segment %d, want %d", name, got, want)
		}
	}
}

// What the system says stays recognisable and gets a next step.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err, is error
		want    string
	}{
		{syscall.ENOSPC, syscall.ENOSPC, "free some space"},
		{syscall.EDQUOT, syscall.EDQUOT, "free some space"},
		{syscall.EROFS, syscall.EROFS, "make that disk writable again"},
		{syscall.EACCES, fs.ErrPermission, "run as the owner"},
		{syscall.EPERM, fs.ErrPermission, "run as the owner"},
		{syscall.ENOENT, fs.ErrNotExist, "drawbridge join"},
		{syscall.EIO, syscall.EIO, "input/output error"},
	} {
		err := explain(&fs.PathError{Op: "write", Path: "/some/path", Err: tt.err})
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "/some/path") {
			t.Errorf("%v: %v, want %q", tt.err, err, tt.want)
		}
	}
	if err := explain(nil); err != nil {
		t.Error(err)
	}
}

// A stranger learns why he may not read.
func TestReadDenied(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("nothing is denied to root")
	}
	dir := t.TempDir()
	mustAppend(t, dir, Event{Kind: "k"})
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	if _, err := Read(dir, Filter{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "run as the owner") {
		t.Errorf("error %v", err)
	}
}
