package pki

import (
	"fmt"
	"time"
)

// life is how long a node is to be certified.
func (c Claims) life() (time.Duration, error) {
	if c.Life == 0 {
		return NodeLife, nil
	}
	if c.Life < MinNodeLife || c.Life > MaxNodeLife {
		return 0, fmt.Errorf("a life of %s: want %s to %s", c.Life, MinNodeLife, MaxNodeLife)
	}
	return c.Life, nil
}

// Lifetime is when a node certificate (DER) was issued and when it ends.
// Backdating is undone.
func Lifetime(leaf []byte) (from, to time.Time, err error) {
	c, err := parseCert(leaf)
	if err != nil {
		return from, to, fmt.Errorf("read certificate: %w", err)
	}
	from, to = c.NotBefore.Add(Backdate), c.NotAfter
	if from.After(to) {
		from = to
	}
	return from, to, nil
}

// RenewAt is when a node certificate (DER) should be renewed: at half its life.
func RenewAt(leaf []byte) (time.Time, error) {
	from, to, err := Lifetime(leaf)
	if err != nil {
		return time.Time{}, err
	}
	return from.Add(to.Sub(from) / 2), nil
}
