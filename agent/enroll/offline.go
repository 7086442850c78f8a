package enroll

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
)

// checkOffline: a root key below the state directory would be lost and stolen
// with it.
func (o *InitOptions) checkOffline() error {
	if o.OfflineRoot == "" {
		return nil
	}
	state, err := realPath(o.StateDir)
	if err != nil {
		return err
	}
	root, err := realPath(o.OfflineRoot)
	if err != nil {
		return err
	}
	if within(state, root) || within(root, state) {
		return fmt.Errorf("the directory for the root key, %s, and the state directory, %s, must lie apart", o.OfflineRoot, o.StateDir)
	}
	return nil
}

// realPath is the path without symbolic links, as far as it exists.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for rest := ""; ; {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		parent := filepath.Dir(path)
		if parent == path {
			return "", err
		}
		path, rest = parent, filepath.Join(filepath.Base(path), rest)
	}
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// offlineRoot keeps the root in a directory of its own. If this ends half-way,
// that directory stays: nothing tells that no mesh was made of it.
func offlineRoot(o InitOptions, mesh pki.Mesh, req rootca.Request, now time.Time) (rootca.Grant, error) {
	offline, err := rootca.CreateRootDir(o.OfflineRoot, mesh, now)
	if err != nil {
		return rootca.Grant{}, err
	}
	roots, err := offline.Roots()
	if err != nil {
		return rootca.Grant{}, err
	}
	if req.Pin, err = pki.Pin(roots[0]); err != nil {
		return rootca.Grant{}, err
	}
	var g rootca.Grant
	err = offline.Update(func() error {
		g, err = rootca.Sign(offline, req, now)
		return err
	})
	return g, err
}
