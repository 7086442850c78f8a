package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	folder      = "history" // in the state directory
	maxSegment  = 4 << 20   // bytes
	maxSegments = 8
	maxNumber   = 99_999_999
	maxNames    = 1024 // entries of the folder that are looked at

	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

func segmentName(n int) string { return fmt.Sprintf("events-%08d.jsonl", n) }

// segmentNumber reads a name; anything but a segment is 0.
func segmentNumber(name string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "events-"), ".jsonl"))
	if err != nil || n < 1 || n > maxNumber || segmentName(n) != name {
		return 0
	}
	return n
}

// segments lists the numbers of the segments in path, oldest first. A folder
// that is not there yet has none, if the state directory is.
func segments(path string) ([]int, error) {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(filepath.Dir(path))
		return nil, explain(err)
	}
	if err != nil {
		return nil, explain(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxNames) // io.EOF when there is none
	if len(names) == maxNames {
		return nil, fmt.Errorf("%s holds %d files and more; move away what is not ours", path, maxNames)
	}
	if err != nil && len(names) > 0 {
		return nil, explain(err)
	}
	var list []int
	for _, name := range names {
		if n := segmentNumber(name); n > 0 {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// openFile opens a regular file of the folder, and nothing that a link leads to.
func openFile(path string, flag int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode)
	if errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("open %s: a symbolic link, want a file; remove it", path)
	}
	if err != nil {
		return nil, nil, explain(err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("open %s: not a regular file; remove it", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// openOrMake makes the folder in the state directory dir if need be, and sees
// that only the owner may enter.
func openOrMake(dir string) (path string, err error) {
	path = filepath.Join(dir, folder)
	err = os.Mkdir(path, dirMode)
	if err == nil {
		return path, explain(syncDir(dir))
	}
	if !errors.Is(err, fs.ErrExist) {
		return "", explain(err)
	}
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return "", explain(err)
	case !st.IsDir():
		return "", fmt.Errorf("%s is not a directory; move it away", path)
	case st.Mode().Perm()&0o077 != 0:
		return path, explain(os.Chmod(path, dirMode))
	}
	return path, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// explain adds the next step to what the system says.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; free some space on that disk", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; make that disk writable again", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run as the owner of the state directory (root for the system's agent)", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; run `drawbridge init` or `drawbridge join` first, or name another with --state-dir", err)
	}
	return err
}
