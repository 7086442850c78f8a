package api

import "time"

// Seconds is a duration as JSON carries it.
type Seconds float64

// SecondsOf converts a duration.
func SecondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Duration converts back, to the nanosecond.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// age is how long ago t was; nil for the zero time, and never negative, since
// a clock that went back is no reason to print nonsense.
func age(now, t time.Time) *Seconds {
	if t.IsZero() {
		return nil
	}
	s := SecondsOf(max(0, now.Sub(t)))
	return &s
}

// known is a duration of which zero means unknown.
func known(d time.Duration) *Seconds {
	if d == 0 {
		return nil
	}
	s := SecondsOf(d)
	return &s
}

// when is a time of which zero means never.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC().Round(0)
	return &u
}
