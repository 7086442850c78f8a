package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes this test binary one of the children below instead.
const childEnv = "DRAWBRIDGE_HISTORY_CHILD"

func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(childEnv)); len(args) > 1 {
		os.Exit(children[args[0]](args[1], args[2:]))
	}
	os.Exit(m.Run())
}

var children = map[string]func(dir string, args []string) int{
	"append": childAppend,
	"limit":  childLimit,
	"tmpfs":  childTmpfs,
}

// child makes the command of a child on the state directory dir.
func child(t *testing.T, name, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{name, dir}, args...), " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// childAppend appends events NAME-0, NAME-1 ... of which the second argument
// says how many, and names each on standard output once it is kept.
func childAppend(dir string, args []string) int {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return 2
	}
	for i := range n {
		subject := fmt.Sprint(args[0], "-", i)
		if err := patient(dir, Event{Kind: "k", Subject: subject}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(subject)
	}
	return 0
}

// patient appends even where slow disks and busy writers outlast the wait for
// a turn.
func patient(dir string, e Event) error {
	for tries := 0; ; tries++ {
		err := Append(dir, e)
		if err == nil || tries == 20 || !strings.Contains(err.Error(), "try again") {
			return err
		}
	}
}

func TestAppendFromProcesses(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 4, 25
	var cmds []*exec.Cmd
	for w := range writers {
		cmd := child(t, "append", dir, fmt.Sprint("w", w), fmt.Sprint(each))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for i := range each { // this process beside them
		if err := patient(dir, Event{Kind: "k", Subject: fmt.Sprint("self-", i)}); err != nil {
			t.Error(err)
		}
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	mustCheck(t, dir)
	list := mustRead(t, dir)
	if len(list) != (writers+1)*each {
		t.Errorf("%d events, want %d", len(list), (writers+1)*each)
	}
	next := map[string]int{} // of every writer, its events in its order
	for i, e := range list {
		who, no, _ := strings.Cut(e.Subject, "-")
		if no != fmt.Sprint(next[who]) || e.Seq != uint64(i)+1 {
			t.Fatalf("event %d is %s, number %d", i, e.Subject, e.Seq)
		}
		next[who]++
	}
}

// Reading and checking beside a writer, through the birth of a segment, see
// whole lines only.
func TestReadBesideWriter(t *testing.T) {
	dir := t.TempDir()
	last := fill(t, dir, maxSegments)
	cmd := child(t, "append", dir, "w", "1000000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := last
	for rounds := 0; seen < last+20 && !t.Failed(); rounds++ {
		if rounds == 5000 {
			t.Fatal("the writer writes nothing")
		}
		mustCheck(t, dir)
		list := mustRead(t, dir)
		if e := list[len(list)-1]; e.Seq < seen || e.Seq != list[0].Seq+uint64(len(list))-1 {
			t.Errorf("round %d: %d events, %d to %d, after %d", rounds, len(list), list[0].Seq, e.Seq, seen)
		}
		seen = list[len(list)-1].Seq
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait() // says that it was killed
}

// A writer that is killed at any moment loses nothing that it was told is
// kept, and leaves a journal that goes on.
func TestAppendKilled(t *testing.T) {
	dir := t.TempDir()
	kept := map[string]bool{}
	for round := range 12 {
		cmd := child(t, "append", dir, fmt.Sprint("r", round), "1000000")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			kept[lines.Text()] = true
			if n == round%5 {
				if err := syscall.Kill(cmd.Process.Pid, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
		}
		cmd.Wait() // says that it was killed
		mustAppend(t, dir, Event{Kind: "k", Subject: fmt.Sprint("after-", round)})
		mustCheck(t, dir)
	}
	found := map[string]bool{}
	for _, e := range mustRead(t, dir) {
		found[e.Subject] = true
	}
	for s := range kept {
		if !found[s] {
			t.Errorf("%s is lost", s)
		}
	}
	if len(kept) < 12 {
		t.Errorf("only %d events", len(kept))
	}
}

// childLimit appends until no file may grow further, and expects an error that
// leaves no half line.
func childLimit(dir string, _ []string) int {
	signal.Ignore(syscall.SIGXFSZ)
	limit := &syscall.Rlimit{Cur: 10_000, Max: 10_000}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, limit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	err := fillUp(dir)
	fmt.Println(err)
	if !errors.Is(err, syscall.EFBIG) {
		return 1
	}
	return 0
}

// fillUp appends until there is an error.
func fillUp(dir string) error {
	for i := range 100_000 {
		if err := Append(dir, Event{Kind: "k", Subject: fmt.Sprint(i), Reason: strings.Repeat("x", 700)}); err != nil {
			return err
		}
	}
	return nil
}

func TestAppendDiskFull(t *testing.T) {
	dir := t.TempDir()
	out, err := child(t, "limit", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := afterFull(t, dir)
	if n < 10 {
		t.Errorf("only %d events before the error", n)
	}
}

// afterFull sees that a journal is whole after an append that did not fit, and
// goes on with the next; it returns the number of events before.
func afterFull(t *testing.T, dir string) int {
	t.Helper()
	text := readSegment(t, dir, 1)
	if len(text) == 0 || text[len(text)-1] != '\n' {
		t.Errorf("half a line was left: %.100q", text[strings.LastIndexByte(string(text), '\n')+1:])
	}
	mustCheck(t, dir)
	before := len(mustRead(t, dir))
	mustAppend(t, dir, Event{Kind: "k", Subject: "room again"})
	mustCheck(t, dir)
	list := mustRead(t, dir)
	if len(list) != before+1 || list[before].Seq != uint64(before)+1 {
		t.Errorf("%d events after %d", len(list), before)
	}
	return before
}

// childTmpfs does the same on a small disk of its own, that then turns
// read-only. What is left there goes to the second directory.
func childTmpfs(dir string, args []string) int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 77
	}
	err := fillUp(dir)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
		return fail(fmt.Errorf("full disk: %w", err))
	}
	if err := Check(dir); err != nil {
		return fail(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fail(err)
	}
	err = Append(dir, Event{Kind: "k"})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "writable again") {
		return fail(fmt.Errorf("read-only disk: %w", err))
	}
	if _, err := Read(dir, Filter{}); err != nil {
		return fail(err)
	}
	if err := os.CopyFS(args[0], os.DirFS(dir)); err != nil {
		return fail(err)
	}
	return 0
}

func TestAppendTinyDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount a small disk")
	}
	dir, left := t.TempDir(), filepath.Join(t.TempDir(), "left")
	cmd := child(t, "tmpfs", dir, left)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 77, errors.Is(err, syscall.EPERM):
		t.Skip("mounting is not permitted here")
	case err != nil:
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the small disk is visible here: %v, %v", entries, err)
	}
	if n := afterFull(t, left); n < 30 {
		t.Errorf("only %d events before the error", n)
	}
}

// A writer that holds the lock too long costs an error, not a hang.
func TestAppendLockHeld(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, dir, Event{Kind: "k"})
	f, err := lockFile(filepath.Join(dir, folder, "lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = Append(dir, Event{Kind: "k"})
	if err == nil || !strings.Contains(err.Error(), "another process holds it for more than 2s; try again") {
		t.Errorf("error %v", err)
	}
	if _, err := io.ReadAll(f); err != nil { // the lock file holds nothing
		t.Error(err)
	}
	f.Close()
	mustAppend(t, dir, Event{Kind: "k"})
	mustCheck(t, dir)
}
