package rootca

import "fmt"

// stage is how far a rotation is. It is not written anywhere: it follows from
// the roots that are trusted and the keys that are here.
type stage int

const (
	stageNone     stage = iota // one root
	stageStarted               // the second root is next-root.key's
	stageSwitched              // the second root is old-root.key's
	stageLost                  // the key of the second root is not here
	stageUnknown               // more roots than a rotation has
)

func (v *vault) stage() stage {
	switch {
	case len(v.roots) == 1:
		return stageNone
	case len(v.roots) > 2:
		return stageUnknown
	case belongs(v.next, v.roots[1]):
		return stageStarted
	case belongs(v.old, v.roots[1]):
		return stageSwitched
	}
	return stageLost
}

// refuse says why a step does not begin here, and which one does.
func (s stage) refuse() error {
	switch s {
	case stageNone:
		return fmt.Errorf("%w: no rotation is under way; begin with rotate", ErrStep)
	case stageStarted:
		return fmt.Errorf("%w: the second root is trusted and does not certify yet; next is switch", ErrStep)
	case stageSwitched:
		return fmt.Errorf("%w: the new root certifies already; next is retire", ErrStep)
	case stageLost:
		return fmt.Errorf("%w: the key of the second root is not here; drop that root with retire", ErrStep)
	}
	return fmt.Errorf("%w: more than two roots are trusted", ErrStep)
}
