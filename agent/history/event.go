package history

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is one thing that happened. Strings and details beyond the bounds of a
// line are clipped, which a mark shows.
type Event struct {
	Seq     uint64            `json:"seq"`               // 1, 2, 3 ...; given by [Append]
	At      time.Time         `json:"at"`                // UTC, whole microseconds; zero or beyond the year 9999: when it is appended
	Kind    string            `json:"kind"`              // [a-z-]{1,32}
	Subject string            `json:"subject,omitempty"` // whom or what it happened to
	From    string            `json:"from,omitempty"`    // how it was
	To      string            `json:"to,omitempty"`      // how it is now
	Reason  string            `json:"reason,omitempty"`  // one word
	Actor   string            `json:"actor,omitempty"`   // who did it, see [Person]
	Detail  map[string]string `json:"detail,omitempty"`  // at most 16
}

// KindHistory is the kind of events about the journal itself: a torn line was
// cut off, lines are damaged, events were lost.
const KindHistory = "history"

// subjectJournal is their subject.
const subjectJournal = "journal"

const (
	maxDetails = 16
	maxString  = 1024 // bytes of one string
	maxKey     = 64   // bytes of the key of a detail
	// minString always fits into a line: with 16 details there are 37 strings,
	// and JSON makes at most six bytes of one.
	minString = 16
	clipMark  = "…"
)

// ErrKind refuses an event whose kind is no word.
var ErrKind = errors.New("the kind of an event is 1 to 32 of a-z and -")

var kindWord = regexp.MustCompile(`^[a-z-]{1,32}$`)

// secretish finds what must never be kept: tokens, private keys in PEM, and
// AWS session tokens. Callers leave secrets out; this is the last guard.
var secretish = regexp.MustCompile(`(?i:dbt[0-9]+_)|PRIVATE KEY|(?i:x-amz-security-token)`)

const withheld = "[secret withheld]"

// clean returns the event as it may be written: its time filled in, its text
// valid, without secrets, and with at most 16 details.
func (e Event) clean(now time.Time) (Event, error) {
	if !kindWord.MatchString(e.Kind) {
		return Event{}, fmt.Errorf("%w, not %q", ErrKind, clip(e.Kind, 2*maxKey))
	}
	if e.At.IsZero() || !writable(e.At) {
		e.At = now
	}
	e.At = e.At.UTC().Truncate(time.Microsecond)
	for _, s := range []*string{&e.Subject, &e.From, &e.To, &e.Reason, &e.Actor} {
		*s = guard(*s)
	}
	e.Detail = cleanDetail(e.Detail)
	return e, nil
}

// writable reports whether RFC 3339 can say the time: its years have four digits.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

// cleanDetail keeps the first details in the order of their keys; the last one
// tells how many did not fit. Of keys that become equal the first one counts.
func cleanDetail(detail map[string]string) map[string]string {
	out := make(map[string]string, min(len(detail), maxDetails))
	for i, k := range slices.Sorted(maps.Keys(detail)) {
		if len(out) == maxDetails-1 && len(detail)-i > 1 {
			out[clipMark] = fmt.Sprintf("and %d more", len(detail)-i)
			break
		}
		if key := clip(guard(k), maxKey); !has(out, key) {
			out[key] = guard(detail[k])
		}
	}
	return out
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// guard makes s valid UTF-8 and withholds it if it looks like a secret.
func guard(s string) string {
	if secretish.MatchString(s) {
		return withheld
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError))
}

// clipped returns the event with no string longer than limit bytes.
func (e Event) clipped(limit int) Event {
	for _, s := range []*string{&e.Subject, &e.From, &e.To, &e.Reason, &e.Actor} {
		*s = clip(*s, limit)
	}
	detail := make(map[string]string, len(e.Detail))
	for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
		if key := clip(k, min(limit, maxKey)); !has(detail, key) {
			detail[key] = clip(e.Detail[k], limit)
		}
	}
	e.Detail = detail
	return e
}

// clip cuts s to at most limit bytes, at the border of a character, the mark
// included.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := limit - len(clipMark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + clipMark
}
