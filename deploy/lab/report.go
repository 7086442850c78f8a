package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is the outcome of a measurement: enough to print, to keep, and to
// repeat.
type Report struct {
	SchemaVersion int        `json:"schema_version"`
	Measure       string     `json:"measure"`
	Command       string     `json:"command"`
	Mode          Mode       `json:"mode"`
	Runs          int        `json:"runs"`
	Machine       Machine    `json:"machine"`
	Figures       []Figure   `json:"figures"`
	Failures      []string   `json:"failures"`          // runs that broke a promise, in words
	Skipped       string     `json:"skipped,omitempty"` // why nothing was measured; "": it was
	Absent        []string   `json:"absent,omitempty"`  // what could not be compared, and why
	Timelines     []Timeline `json:"timelines,omitempty"`
}

// Machine is what the figures depend on.
type Machine struct {
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Figure is one measured quantity, one value a run. A run in which it never
// came counts as a failure, not as a value.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Higher bool      `json:"higher_is_better,omitempty"`
}

// Median is the middle value; NaN without values.
func (f Figure) Median() float64 {
	if len(f.Values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(f.Values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Worst is the greatest value, or the smallest of a figure that is better when
// higher. NaN without values.
func (f Figure) Worst() float64 {
	if len(f.Values) == 0 {
		return math.NaN()
	}
	if f.Higher {
		return slices.Min(f.Values)
	}
	return slices.Max(f.Values)
}

func newReport(measure string, mode Mode, command []string) *Report {
	kernel := ""
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(b))
	}
	return &Report{
		SchemaVersion: 1, Measure: measure, Mode: mode, Command: strings.Join(command, " "),
		Machine:  Machine{Cores: runtime.NumCPU(), Kernel: kernel, Go: runtime.Version()},
		Failures: []string{},
	}
}

// add appends a value to the figure of that name, making it at first.
func (r *Report) add(name, unit string, value float64) {
	f := r.figure(name, unit)
	f.Values = append(f.Values, value)
}

// addHigher is add for what is better when higher.
func (r *Report) addHigher(name, unit string, value float64) {
	f := r.figure(name, unit)
	f.Higher = true
	f.Values = append(f.Values, value)
}

func (r *Report) figure(name, unit string) *Figure {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		r.Figures = append(r.Figures, Figure{Name: name, Unit: unit})
		i = len(r.Figures) - 1
	}
	return &r.Figures[i]
}

func (r *Report) addSeconds(name string, s *Seconds) {
	if s != nil {
		r.add(name, "s", float64(*s))
	}
}

func (r *Report) fail(run int, err error) {
	r.Failures = append(r.Failures, fmt.Sprintf("run %d: %v", run+1, err))
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	if r.Skipped != "" {
		_, err := fmt.Fprintf(w, "%s, %s: skipped: %s\n\n", r.Measure, r.Mode, r.Skipped)
		return err
	}
	fmt.Fprintf(w, "%s, %s, %d runs; %d cores, Linux %s, %s\n$ %s\n\n",
		r.Measure, r.Mode, r.Runs, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Command)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tmedian\tworst\tvalues")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s, %s\t%s\t%s\t%d\n", f.Name, f.Unit, number(f.Median()), number(f.Worst()), len(f.Values))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range r.Absent {
		fmt.Fprintf(w, "absent: %s\n", a)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "FAILED %s\n", f)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// number prints whole numbers without and others with two decimals.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
