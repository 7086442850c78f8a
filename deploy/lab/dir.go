package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Files of the lab directory. Besides them it holds one state directory per
// node, named after it.
const (
	markerFile  = "lab.json"
	controlFile = "lab.sock"
	cloudFile   = "cloud.sock"
	logDir      = "logs"
	agentSocket = "agent.sock"
)

// socketRoom is what must be left of a unix socket's path, which Linux limits
// to 108 bytes, for the longest name in the lab directory.
const socketRoom = 108 - len("/gpu-100/agent.sock") - 1

// outsideDirEnv tells a process inside the lab's user namespace, where every
// user is root, the default directory of the user who started it.
const outsideDirEnv = "DRAWBRIDGE_LAB_OUTSIDE_DIR"

// DefaultDir is where a lab lives unless the user says otherwise: private to
// the user, and short, because unix sockets are in it.
func DefaultDir() string {
	if dir := os.Getenv(outsideDirEnv); dir != "" && Inside() {
		return dir
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return filepath.Join(dir, "drawbridge-lab")
		}
	}
	return filepath.Join(os.TempDir(), "drawbridge-lab-"+strconv.Itoa(os.Getuid()))
}

// marker is the content of lab.json: enough for a person or a script to find
// their way in the directory.
type marker struct {
	SchemaVersion int               `json:"schema_version"`
	Mode          Mode              `json:"mode"`
	Started       time.Time         `json:"started"`
	Control       string            `json:"control"` // socket
	Agents        map[string]string `json:"agents"`  // socket by node
}

// prepareDir empties a former lab's directory, or makes a new one. It never
// touches a directory that is not a lab's.
func prepareDir(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("prepare lab directory: %w", err)
	}
	if len(dir) > socketRoom {
		return "", fmt.Errorf("lab directory %s is too long for unix sockets: choose one of at most %d bytes with --dir", dir, socketRoom)
	}
	d := net.Dialer{Timeout: time.Second}
	if c, err := d.DialContext(ctx, "unix", filepath.Join(dir, controlFile)); err == nil {
		_ = c.Close()
		return "", fmt.Errorf("a lab is running in %s: stop it with `drawbridge lab stop`, or choose another --dir", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("prepare lab directory: %w", err)
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("prepare lab directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, markerFile)); len(old) > 0 && errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is not empty and not a lab's: choose another --dir", dir)
	}
	for _, e := range old {
		if e.Name() == markerFile {
			continue // last, so that an interrupted run can be repeated
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return "", fmt.Errorf("empty lab directory: %w", err)
		}
	}
	if err := writeMarker(dir, marker{SchemaVersion: 1}); err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(dir, logDir), 0o700); err != nil {
		return "", fmt.Errorf("prepare lab directory: %w", err)
	}
	return dir, nil
}

func writeMarker(dir string, m marker) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", markerFile, err)
	}
	if err := os.WriteFile(filepath.Join(dir, markerFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("mark lab directory: %w", err)
	}
	return nil
}
