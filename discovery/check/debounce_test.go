package check

import (
	"strings"
	"testing"
)

func TestDebounce(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rise, fall int
		results    string // + passed, - failed
		want       string // state after each: ? unknown, P passing, F failing
	}{
		{"one pass at the start", 3, 3, "+", "P"},
		{"failing at the start takes fall", 2, 3, "---", "??F"},
		{"one pass between failures at the start", 2, 2, "-+", "?P"},
		{"rise in a row", 2, 2, "--+-++", "?FFFFP"},
		{"fall in a row", 2, 2, "+-+--", "PPPPF"},
		{"stays", 2, 2, "++++-+-+", "PPPPPPPP"},
		{"thresholds of one", 1, 1, "+-+", "PFP"},
		{"thresholds of zero count as one", 0, 0, "-+-", "FPF"},
		{"long run needs no longer run back", 2, 2, "++++++++--", "PPPPPPPPPF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d debounce
			var got strings.Builder
			for _, r := range tt.results {
				d = d.next(r == '+', tt.rise, tt.fall)
				got.WriteString(map[string]string{"unknown": "?", "passing": "P", "failing": "F"}[string(d.State())])
			}
			if got.String() != tt.want {
				t.Errorf("after %s: %s, want %s", tt.results, got.String(), tt.want)
			}
		})
	}
}
