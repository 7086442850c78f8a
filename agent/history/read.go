package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// How many events Read returns when the filter does not say, and at most.
const (
	DefaultLast = 1000
	MaxLast     = 100_000
)

// Filter chooses events; the zero value is the newest thousand.
type Filter struct {
	Since, Until time.Time // from, and before; zero: no bound
	Kinds        []string  // one of these; empty: any
	Subject      string    // this, or a word of it, or how an id in it begins (8 digits and more); "": any
	Actor        string    // this is part of the actor; "": any
	Last         int       // the newest so many of these; 0: DefaultLast
}

func (f Filter) keeps(e Event) bool {
	return (f.Since.IsZero() || !e.At.Before(f.Since)) &&
		(f.Until.IsZero() || e.At.Before(f.Until)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(f.Subject == "" || isAbout(e.Subject, f.Subject)) &&
		strings.Contains(e.Actor, f.Actor)
}

// idWord is an id or a key in hex; people use its first eight digits.
var idWord = regexp.MustCompile(`^[0-9a-f]{32,}$`)

func isAbout(subject, word string) bool {
	if subject == word {
		return true
	}
	for w := range strings.FieldsSeq(subject) {
		if w == word || len(word) >= 8 && strings.HasPrefix(w, word) && idWord.MatchString(w) {
			return true
		}
	}
	return false
}

// Read returns the events of the state directory dir that the filter chooses,
// oldest first; no journal yet is no event. Damaged lines are passed over and
// counted in a [*DamageError], which comes beside the events. It takes no lock
// and writes nothing: a line that is being written is not seen yet.
func Read(dir string, f Filter) ([]Event, error) {
	path := filepath.Join(dir, folder)
	segs, err := segments(path)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	last := f.Last
	if last <= 0 {
		last = DefaultLast
	}
	ring := newest{limit: min(last, MaxLast)}
	damage := &DamageError{Dir: path}
	for i, n := range segs {
		name := filepath.Join(path, segmentName(n))
		err := scan(name, i == len(segs)-1, func(no int, raw []byte, err error) {
			var l line
			if err == nil {
				l, err = decode(raw)
			}
			switch {
			case err != nil:
				damage.add(name, no, err.Error())
			case f.keeps(l.Event):
				ring.add(l.Event)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
	}
	return ring.list(), damage.orNil()
}

// newest keeps the last events it was given.
type newest struct {
	limit  int
	events []Event
	next   int // the oldest, once there are limit
}

func (r *newest) add(e Event) {
	if len(r.events) < r.limit {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % r.limit
}

func (r *newest) list() []Event { return slices.Concat(r.events[r.next:], r.events[:r.next]) }

var (
	errUnfinished = errors.New("the line has no end")
	errOversize   = fmt.Errorf("longer than the %d bytes of a segment; the rest was not read", maxSegment)
)

// scan visits the lines of a segment, without their newlines and valid until
// the next, or what is wrong with one that cannot be read. A segment that was
// removed meanwhile has none, and what follows the last newline of the newest
// one is no line yet.
func scan(name string, isNewest bool, visit func(no int, raw []byte, err error)) error {
	f, _, err := openFile(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := &io.LimitedReader{R: f, N: maxSegment + 1}
	r := bufio.NewReaderSize(in, 2*maxLine)
	for no := 1; ; no++ {
		raw, err := r.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read %s: %w", name, err)
		case err != nil && in.N == 0:
			visit(no, nil, errOversize)
			return nil
		case err != nil:
			if !isNewest && (long || len(raw) > 0) {
				visit(no, nil, errUnfinished)
			}
			return nil
		case long:
			visit(no, nil, errLong)
		default:
			visit(no, raw[:len(raw)-1], nil)
		}
	}
}
