package history

import (
	"fmt"
	"path/filepath"
)

// maxPlaces bounds the places that a DamageError names.
const maxPlaces = 16

// maxWhat bounds the words about one place, in bytes: they quote the line.
const maxWhat = 256

// Damage is one place where the journal is not as it was written.
type Damage struct {
	File string // name of the segment
	Line int    // counted from 1; 0: the segment as a whole
	What string
}

// String is file, line and what is wrong there.
func (d Damage) String() string {
	if d.Line == 0 {
		return d.File + ": " + d.What
	}
	return fmt.Sprintf("%s:%d: %s", d.File, d.Line, d.What)
}

// DamageError tells where a journal was changed, by the disk or by somebody.
type DamageError struct {
	Dir    string // the folder of the journal
	Count  int
	Places []Damage // the first 16, oldest first
}

// Error names the first place.
func (e *DamageError) Error() string {
	text := fmt.Sprintf("history in %s is damaged", e.Dir)
	if e.Count > 1 {
		text += fmt.Sprintf(" in %d places", e.Count)
	}
	if len(e.Places) > 0 {
		text += ": " + e.Places[0].String()
	}
	return text
}

// NextStep says what a person can do.
func (e *DamageError) NextStep() string {
	return "copy " + e.Dir + " away before old segments are removed, then look at the places that `drawbridge history --check` names"
}

func (e *DamageError) add(name string, line int, what string) {
	e.Count++
	if len(e.Places) < maxPlaces {
		e.Places = append(e.Places, Damage{File: filepath.Base(name), Line: line, What: clip(what, maxWhat)})
	}
}

// orNil is the error, if there is any damage.
func (e *DamageError) orNil() error {
	if e.Count == 0 {
		return nil
	}
	return e
}
