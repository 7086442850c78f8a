package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseMoment reads a moment: a time before now, RFC 3339, or a local date or
// time as we print it. "" is the zero time.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, ok := parseAgo(text); ok {
		return now.Add(-ago), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q: want a time ago such as 90s, 1h or 7d, a date such as 2026-03-01, or a time such as \"2026-03-01 12:00:00\" or 2026-03-01T12:00:00Z", text)
}

// parseAgo reads a duration that is not negative; days are ours.
func parseAgo(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}
