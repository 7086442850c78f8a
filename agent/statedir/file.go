package statedir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The files, and their kinds (the name without its directory and extension).
const (
	fileIdentity    = "identity.key"
	fileWireGuard   = "wireguard.key"
	fileChain       = "chain.pem"
	fileRoots       = "roots.pem"
	fileIssuerKey   = "issuer.key"
	fileIssuer      = "issuer.pem"
	fileRenewer     = "renewer.pem"
	fileRootKey     = "root.key"
	fileNextRootKey = "next-root.key"
	fileOldRootKey  = "old-root.key"
	fileNode        = "node.json"
	fileAllocations = "allocations.json"
	filePeers       = "peers.bin"
	fileNotices     = "notices.bin"
	fileEndpoints   = "endpoints.json"
	fileMemory      = "memory.bin"
	fileDoors       = "doors.json"
	fileClock       = "clock.json"
	fileUnfinished  = "unfinished.mark"
	dirTokens       = "tokens"
	dirPending      = "pending"
)

// Bounds of a file's body. Lists that grow with the mesh get more room: a
// thousand signed records are about two megabytes.
const (
	maxFile = 1 << 20
	maxList = 16 << 20
)

const magic = "# drawbridge state"

// formatVersion is the version of the first line; a newer one is refused.
const formatVersion = 1

// What can be wrong with a file. Errors carry path, cause and next step.
var (
	// ErrCorrupt: half-written, cut short or changed. Caches may be treated as
	// empty with a warning; keys and ledgers must not.
	ErrCorrupt = errors.New("damaged")
	// ErrVersion: written by a newer agent.
	ErrVersion = errors.New("written in a format this version does not know")
	// ErrTooLarge: beyond the bound.
	ErrTooLarge = errors.New("too large")
	// ErrTooOpen: others may read it, and that cannot be repaired.
	ErrTooOpen = errors.New("readable by others")
	// ErrInUse: the directory belongs to a member of a mesh.
	ErrInUse = errors.New("state directory already in use")
)

func kindOf(name string) string {
	base := filepath.Base(name)
	switch filepath.Dir(name) {
	case dirTokens:
		return "token"
	case dirPending:
		return "pending"
	}
	return strings.Replace(strings.TrimSuffix(strings.TrimSuffix(base, ".json"), ".bin"), ".", "-", 1)
}

func limitOf(name string) int {
	switch name {
	case filePeers, fileNotices, fileAllocations:
		return maxList
	}
	return maxFile
}

// nextStep says what a person can do about a damaged file.
func nextStep(name string) string {
	switch name {
	case filePeers, fileEndpoints, fileMemory, fileDoors, fileClock:
		return "it is a cache: delete it, it will be written anew"
	case fileNotices:
		return "restore it from a backup, or delete it: the other nodes tell it again, and until then this one does not know who was revoked"
	case fileAllocations:
		return "restore it from a backup; without it addresses could be given twice"
	}
	switch filepath.Dir(name) {
	case dirTokens:
		return "delete it and create a new token"
	case dirPending:
		return "delete it; the host will ask again"
	}
	return "restore it from a backup, or empty the directory and join again with a new token"
}

// encode puts the first line before the body.
func encode(kind string, body []byte) []byte {
	sum := sha256.Sum256(body)
	head := fmt.Sprintf("%s %d %s %d %s\n", magic, formatVersion, kind, len(body), hex.EncodeToString(sum[:]))
	return append([]byte(head), body...)
}

// decode checks the first line and returns the body.
func decode(kind string, data []byte) ([]byte, error) {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrCorrupt)
	}
	if len(head) > 256 {
		return nil, fmt.Errorf("%w: not a state file", ErrCorrupt)
	}
	rest, isOurs := strings.CutPrefix(string(head), magic+" ")
	if !ok || !isOurs {
		return nil, fmt.Errorf("%w: the first line is incomplete or not ours", ErrCorrupt)
	}
	f := strings.Split(rest, " ")
	version, err := strconv.Atoi(f[0])
	if err != nil {
		return nil, fmt.Errorf("%w: no version in the first line", ErrCorrupt)
	}
	if version != formatVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrVersion, version, formatVersion)
	}
	if len(f) != 4 {
		return nil, fmt.Errorf("%w: the first line has %d fields, want 4", ErrCorrupt, len(f))
	}
	if f[1] != kind {
		return nil, fmt.Errorf("%w: is a %q, not a %q", ErrCorrupt, f[1], kind)
	}
	if n, err := strconv.Atoi(f[2]); err != nil || n != len(body) {
		return nil, fmt.Errorf("%w: holds %d of %s bytes (half-written, cut short or changed)", ErrCorrupt, len(body), f[2])
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != f[3] {
		return nil, fmt.Errorf("%w: wrong checksum (changed by hand or by the disk)", ErrCorrupt)
	}
	return body, nil
}

// read returns the body of a file.
func (d *Dir) read(name string) ([]byte, error) {
	path := filepath.Join(d.path, name)
	data, err := d.slurp(path, limitOf(name)+512)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	body, err := decode(kindOf(name), data)
	if errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("read %s: %w; install the newer version again", path, err)
	}
	if err != nil {
		return nil, d.damaged(name, err)
	}
	return body, nil
}

// damaged names the file and the next step. err must match ErrCorrupt.
func (d *Dir) damaged(name string, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("read %s: %w; %s", filepath.Join(d.path, name), err, nextStep(name))
}

// slurp reads a regular file of at most limit bytes, repairing its mode.
func (d *Dir) slurp(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; run as its owner (root for the system's agent)", fs.ErrPermission)
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%w: a symbolic link, want a file", ErrCorrupt)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrCorrupt)
	}
	if err := d.tighten(path, st, fileMode); err != nil {
		return nil, err
	}
	if st.Size() > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, st.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return data, err
}

// write replaces a file as a whole, durably.
func (d *Dir) write(name string, body []byte) error {
	path := filepath.Join(d.path, name)
	if len(body) > limitOf(name) {
		return fmt.Errorf("write %s: %w: %d bytes, at most %d", path, ErrTooLarge, len(body), limitOf(name))
	}
	if err := d.interrupted(name, false); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := replace(path, encode(kindOf(name), body)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := d.interrupted(name, true); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// replace writes beside, syncs, renames over, and syncs the directory.
func replace(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern) // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // may be closed already
			_ = os.Remove(f.Name()) // if not, the next Lock sweeps
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// remove deletes a file durably; a missing one is fine.
func (d *Dir) remove(name string) error {
	path := filepath.Join(d.path, name)
	if err := d.interrupted(name, false); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return d.interrupted(name, true)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
