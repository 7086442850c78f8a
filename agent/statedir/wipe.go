package statedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Wipe removes everything of a membership: keys, certificates, ledger, what is
// remembered of others. A crash on the way leaves "not joined", and what is left
// is cleared by the next init or join. What the history tells stays. The caller
// holds [Dir.Lock].
func (d *Dir) Wipe() error {
	if err := errors.Join(d.write(fileUnfinished, nil), d.remove(fileNode)); err != nil {
		return fmt.Errorf("wipe state directory: %w", err)
	}
	var errs []error
	for _, sub := range []string{dirTokens, dirPending} {
		errs = append(errs, os.RemoveAll(filepath.Join(d.path, sub)))
	}
	errs = append(errs, d.Abandon())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("wipe state directory: %w", err)
	}
	return nil
}
