package history

import (
	"fmt"
	"path/filepath"
)

// Check reads the whole journal and compares every line with the one after it.
// A line that was changed, removed, added or moved is a [*DamageError] that
// tells where. It cannot see that the newest lines were cut away, nor that the
// newest line was changed, until another follows.
func Check(dir string) error {
	path := filepath.Join(dir, folder)
	err := check(path)
	if err != nil {
		// An append may have cut off an unfinished line under our eyes.
		err = check(path)
	}
	return err
}

func check(path string) error {
	segs, err := segments(path)
	if err != nil {
		return fmt.Errorf("check history: %w", err)
	}
	c := chain{damage: &DamageError{Dir: path}}
	for i, n := range segs {
		name := filepath.Join(path, segmentName(n))
		switch {
		case i == 0 && n == 1:
			c.follows = true // nothing: the first line is the first of all
		case i == 0 && len(segs) < maxSegments:
			c.damage.add(name, 0, fmt.Sprintf("the segments before it were removed, though there are only %d", len(segs)))
		case i > 0 && n != segs[i-1]+1:
			c.damage.add(name, 0, fmt.Sprintf("%d segments before it were removed", n-segs[i-1]-1))
			c.follows = false
		}
		err := scan(name, i == len(segs)-1, func(no int, raw []byte, err error) { c.see(name, n, no, raw, err) })
		if err != nil {
			return fmt.Errorf("check history: %w", err)
		}
	}
	return c.damage.orNil()
}

// chain goes along the lines of a journal.
type chain struct {
	damage  *DamageError
	follows bool   // seq and hash are those of the line before
	seq     uint64 // zero before the first of all
	hash    string
}

// see compares line no of segment n with the line before it.
func (c *chain) see(name string, n, no int, raw []byte, err error) {
	var l line
	if err == nil {
		l, err = decode(raw)
	}
	if err != nil {
		c.damage.add(name, no, err.Error())
		c.follows = false
		return
	}
	mark := 0
	if no == 1 {
		mark = n
	}
	switch {
	case l.Segment != mark && no == 1:
		c.damage.add(name, no, "is not the line that the segment began with: lines before it were removed")
	case l.Segment != mark:
		c.damage.add(name, no, "began a segment: lines were added before it")
	case !c.follows:
	case l.Seq > c.seq+1:
		c.damage.add(name, no, fmt.Sprintf("events %d to %d are missing before it", c.seq+1, l.Seq-1))
	case l.Seq <= c.seq:
		c.damage.add(name, no, fmt.Sprintf("event %d stands behind event %d", l.Seq, c.seq))
	case l.Prev != c.hash:
		c.damage.add(name, no, fmt.Sprintf("does not match event %d before it: one of them was changed", c.seq))
	}
	c.follows, c.seq, c.hash = true, l.Seq, hashOf(raw)
}
