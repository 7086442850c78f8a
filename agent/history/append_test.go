package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustAppend(t *testing.T, dir string, e Event) {
	t.Helper()
	if err := Append(dir, e); err != nil {
		t.Fatal(err)
	}
}

func mustCheck(t *testing.T, dir string) {
	t.Helper()
	if err := Check(dir); err != nil {
		t.Error(err)
		var d *DamageError
		if errors.As(err, &d) {
			t.Log(d.Places)
		}
	}
}

// mustRead reads everything of an undamaged journal.
func mustRead(t *testing.T, dir string) []Event {
	t.Helper()
	list, err := Read(dir, Filter{Last: MaxLast})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func segmentPath(dir string, n int) string { return filepath.Join(dir, folder, segmentName(n)) }

func readSegment(t *testing.T, dir string, n int) []byte {
	t.Helper()
	b, err := os.ReadFile(segmentPath(dir, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeSegment(t *testing.T, dir string, n int, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, folder), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segmentPath(dir, n), text, fileMode); err != nil {
		t.Fatal(err)
	}
}

// subjects joins the subjects of events, or their reasons where they are about
// the journal.
func subjects(list []Event) string {
	var words []string
	for _, e := range list {
		if e.Kind == KindHistory {
			words = append(words, e.Reason)
			continue
		}
		words = append(words, e.Subject)
	}
	return strings.Join(words, " ")
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, dir, Event{At: noon, Kind: "token-created", Subject: "3f9a", Actor: "user alice", Detail: map[string]string{"site": "idc", "role": "server"}})
	mustAppend(t, dir, Event{At: noon, Kind: "token-revoked", Subject: "3f9a", From: "good", To: "revoked", Reason: "operator", Actor: "user alice"})
	first := `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"token-created","subject":"3f9a","actor":"user alice","detail":{"role":"server","site":"idc"},"segment":1}`
	second := `{"seq":2,"at":"2026-03-01T12:00:00Z","kind":"token-revoked","subject":"3f9a","from":"good","to":"revoked","reason":"operator","actor":"user alice","prev":"` +
		hashOf([]byte(first)) + `"}`
	if diff := cmp.Diff(first+"\n"+second+"\n", string(readSegment(t, dir, 1))); diff != "" {
		t.Errorf("segment (-want +got):\n%s", diff)
	}
	mustCheck(t, dir)
	for name, want := range map[string]fs.FileMode{"": 0o700, "lock": 0o600, "events-00000001.jsonl": 0o600} {
		st, err := os.Stat(filepath.Join(dir, folder, name))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%q: mode %v, want %v (%v)", name, st.Mode().Perm(), want, err)
		}
	}
}

func TestAppendTightensFolder(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, dir, Event{Kind: "k"})
	path := filepath.Join(dir, folder)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, dir, Event{Kind: "k"})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestAppendRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(t *testing.T, make func(path string) error) string {
		t.Helper()
		dir := t.TempDir()
		if err := make(filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, tt := range []struct {
		name string
		make func(path string) error
		kind string
		want string
	}{
		{"kind", func(string) error { return nil }, "No Kind", "a-z and -"},
		{"folder is a file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "k", "not a directory; move it away"},
		{"folder is a link", func(p string) error { return os.Symlink(t.TempDir(), p) }, "k", "not a directory; move it away"},
		{"segment is a link", func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), os.Symlink(plain, filepath.Join(p, segmentName(1))))
		}, "k", "a symbolic link"},
		{"segment is a pipe", func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), syscall.Mkfifo(filepath.Join(p, segmentName(1)), 0o600))
		}, "k", "not a regular file"},
		{"lock is a link", func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), os.Symlink(plain, filepath.Join(p, "lock")))
		}, "k", "a symbolic link"},
		{"last number taken", func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), os.WriteFile(filepath.Join(p, segmentName(maxNumber)), bytes.Repeat([]byte("x"), maxTail+1), 0o600))
		}, "k", "the last number"},
		{"folder full of other things", func(p string) error {
			errs := []error{os.Mkdir(p, 0o700)}
			for i := range maxNames {
				errs = append(errs, os.WriteFile(filepath.Join(p, strconv.Itoa(i)), nil, 0o600))
			}
			return errors.Join(errs...)
		}, "k", "move away what is not ours"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Append(with(t, tt.make), Event{Kind: tt.kind})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("no state directory", func(t *testing.T) {
		err := Append(filepath.Join(t.TempDir(), "missing"), Event{Kind: "k"})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--state-dir") {
			t.Errorf("error %v", err)
		}
	})
	if b, err := os.ReadFile(plain); err != nil || len(b) > 0 {
		t.Errorf("a link was followed: %q, %v", b, err)
	}
}

func TestAppendFromGoroutines(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 8, 10
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := Append(dir, Event{Kind: "k", Actor: fmt.Sprint(w), Subject: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustCheck(t, dir)
	if n := len(mustRead(t, dir)); n != writers*each {
		t.Errorf("%d events, want %d", n, writers*each)
	}
}
