package agent

import (
	"errors"
	"fmt"
	"io/fs"

	"drawbridge/agent/statedir"
	"drawbridge/tunnel/kernel"
	"drawbridge/tunnel/nft"
)

// CleanupOptions of [Cleanup].
type CleanupOptions struct {
	StateDir  string // refused while an agent holds it; need not exist
	Interface string
	DryRun    bool // only tell
}

// Cleanup removes what a killed agent left behind: its interface with
// addresses and routes, of whichever backend, and its packet filter. It needs
// no memory of that agent, and returns what it removed, or would. What is not
// an agent's is refused or not seen.
func Cleanup(o CleanupOptions) (removed []string, err error) {
	release, err := idle(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	// The filter last: while the interface stands it should not stand open.
	there, err := kernel.Left(o.Interface)
	if err == nil && there != "" && !o.DryRun {
		_, err = kernel.Cleanup(o.Interface)
	}
	if err != nil {
		return nil, err
	}
	if there != "" {
		removed = append(removed, there)
	}
	table, err := nft.Present()
	if err == nil && table && !o.DryRun {
		err = nft.Cleanup()
	}
	if err != nil {
		return removed, fmt.Errorf("remove packet filter: %w", err)
	}
	if table {
		removed = append(removed, "packet filter table inet drawbridge")
	}
	return removed, nil
}

// idle holds the state directory, so that no agent runs on it. A host that has
// none has no agent to wait for.
func idle(path string) (release func() error, err error) {
	dir, err := statedir.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	return dir.Lock()
}
