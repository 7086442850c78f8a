package lab

import (
	"context"
	"errors"
)

// ChooseMode settles Auto: namespaces where everything they need can really be
// made, else loopback, with the reason.
func ChooseMode(ctx context.Context, want Mode) (Mode, string, error) {
	switch {
	case want == Loopback:
		return Loopback, "", nil
	case Inside():
		return Namespaces, "", nil // the outer process has looked
	}
	err := CheckNamespaces(ctx)
	switch {
	case err == nil:
		return Namespaces, "", nil
	case want == Namespaces:
		return "", "", err
	case errors.Is(err, ErrRefused):
		return Loopback, err.Error(), nil
	}
	return "", "", err
}
