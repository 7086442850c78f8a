package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// The modes of everything we create.
const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// Dir is an open state directory. Its methods may be called from several
// goroutines and processes; changes that read first belong into [Dir.Update].
type Dir struct {
	path      string
	interrupt func(name string, done bool) error // tests only, see Interrupt

	mu      sync.Mutex // guards repairs
	repairs []string
}

// Open opens an existing directory. A missing one is an error that matches
// [fs.ErrNotExist]. Permissions that let others in are repaired, see
// [Dir.Repairs]; if that is not possible the directory is refused. So is one
// that others may enter and that is plainly not ours: it is left alone.
func Open(path string) (*Dir, error) {
	d := &Dir{path: filepath.Clean(path)}
	st, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open state directory %s: %w; run `drawbridge init` or `drawbridge join` first, or name another with --state-dir", d.path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open state directory %s: %w; run as its owner (root for the system's agent)", d.path, fs.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("open state directory: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("open state directory %s: not a directory", d.path)
	}
	// Stat needs no right on the directory itself; reading and writing do.
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w; run as its owner (root for the system's agent)", d.path, err)
	}
	if st.Mode().Perm()&0o077 != 0 && !ours(entries) {
		// Taking /etc from everybody on account of a slip would be worse.
		return nil, fmt.Errorf("open state directory %s: it holds other files and nothing of ours, and others may enter it; name another with --state-dir", d.path)
	}
	if err := d.tighten(d.path, st, dirMode); err != nil {
		return nil, err
	}
	return d, d.tightenKeys(entries)
}

// ours reports whether a directory is a state directory, or may become one
// (an empty file system has lost+found).
func ours(entries []fs.DirEntry) bool {
	others := 0
	for _, e := range entries {
		switch e.Name() {
		case fileNode, fileUnfinished, fileIdentity, fileRootKey, lockAgent:
			return true
		case "lost+found":
		default:
			others++
		}
	}
	return others == 0
}

// tightenKeys looks after keys that an agent does not read every day.
func (d *Dir) tightenKeys(entries []fs.DirEntry) error {
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".key" || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return fmt.Errorf("open state directory: %w", err)
		}
		if err := d.tighten(filepath.Join(d.path, e.Name()), st, fileMode); err != nil {
			return err
		}
	}
	return nil
}

// Create opens the directory, making it first, with its parents, if need be.
func Create(path string) (*Dir, error) {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, fmt.Errorf("create state directory: %w; name another with --state-dir, or run as root", err)
	}
	return Open(path)
}

// Path is the directory's path.
func (d *Dir) Path() string { return d.path }

// String names the directory.
func (d *Dir) String() string { return "state directory " + d.path }

// Repairs tells, once, which permissions were tightened since the last call,
// one line each, for the caller to log.
func (d *Dir) Repairs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.repairs
	d.repairs = nil
	return r
}

// tighten takes away the rights of others, and remembers that it did.
func (d *Dir) tighten(path string, st fs.FileInfo, want fs.FileMode) error {
	mode := st.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(path, mode&want); err != nil {
		return fmt.Errorf("%w: %s has mode %04o and cannot be repaired (%w); as its owner run: chmod go= %s", ErrTooOpen, path, mode, err, path)
	}
	line := fmt.Sprintf("%s had mode %04o, set to %04o: others could have read it", path, mode, mode&want)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.repairs, line) && len(d.repairs) < 100 {
		d.repairs = append(d.repairs, line)
	}
	return nil
}

// Joined reports whether this directory belongs to a member of a mesh: its
// node file is there, readable or not.
func (d *Dir) Joined() bool { return d.exists(fileNode) }

// Begin marks the directory as being filled. Until [Dir.Commit] a crash leaves
// "not joined". It refuses a directory that is joined, and one that holds keys
// although nothing unfinished is marked: those may be somebody's only copy.
func (d *Dir) Begin() error {
	if d.Joined() {
		return fmt.Errorf("%w: %s", ErrInUse, d.path)
	}
	if d.RootOnly() {
		return fmt.Errorf("%w: %s holds an offline mesh root; name another directory with --state-dir", ErrInUse, d.path)
	}
	if !d.exists(fileUnfinished) {
		for _, name := range []string{fileRootKey, fileNextRootKey, fileOldRootKey, fileIssuerKey, fileIdentity} {
			if d.exists(name) {
				return fmt.Errorf("%w: %s holds %s but no %s; restore the missing file, or move the directory away to start anew", ErrInUse, d.path, name, fileNode)
			}
		}
	}
	return d.write(fileUnfinished, nil)
}

// Commit writes the node file, last of all, and takes Begin's mark away.
func (d *Dir) Commit(n Node) error {
	if err := d.SetNode(n); err != nil {
		return err
	}
	return d.remove(fileUnfinished)
}

// RootOnly reports whether this directory holds the key of a mesh root and
// belongs to no member: a root that is kept offline.
func (d *Dir) RootOnly() bool {
	return d.exists(fileRootKey) && !d.exists(fileUnfinished) && !d.exists(fileIdentity) && !d.Joined()
}

// CommitRoot is [Dir.Commit] for a directory that holds a mesh root only: there
// is no node file. Key, roots and ledger must be there.
func (d *Dir) CommitRoot() error {
	for _, name := range []string{fileRootKey, fileRoots, fileAllocations} {
		if !d.exists(name) {
			return fmt.Errorf("finish %s: %s is missing", d, name)
		}
	}
	return d.remove(fileUnfinished)
}

// Abandon removes everything that was written since Begin, when nothing was
// committed.
func (d *Dir) Abandon() error {
	if d.Joined() || !d.exists(fileUnfinished) {
		return nil
	}
	var errs []error
	for _, name := range []string{
		fileIdentity, fileWireGuard, fileChain, fileRoots, fileIssuerKey, fileIssuer, fileRenewer,
		fileRootKey, fileNextRootKey, fileOldRootKey, fileAllocations, filePeers, fileNotices,
		fileEndpoints, fileMemory, fileDoors, fileClock, fileUnfinished,
	} {
		errs = append(errs, d.remove(name))
	}
	return errors.Join(errs...)
}

func (d *Dir) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(d.path, name))
	return !errors.Is(err, fs.ErrNotExist)
}
