package lab

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"drawbridge/agent/api"
)

// Timeline is what a blackout of the machine room looked like from outside.
// Times that never came are nil.
type Timeline struct {
	Cut      time.Time `json:"cut"`
	Detected *Seconds  `json:"detected"` // first gateway's verdict dark, after the cut
	Decided  *Seconds  `json:"decided"`  // goal weight 0, after the cut
	Written  *Seconds  `json:"written"`  // weight 0 accepted by AWS, after the cut

	Requests    int      `json:"requests"`     // sent after the cut
	Failed      int      `json:"failed"`       // of them
	LastFailed  *Seconds `json:"last_failed"`  // sending of the last one, after the cut
	FailedAfter int      `json:"failed_after"` // sent later than Written and Propagation, before the return

	Healed          *Seconds `json:"healed"`           // after the cut
	ReturnStarted   *Seconds `json:"return_started"`   // first weight above 0, after the healing
	ReturnCompleted *Seconds `json:"return_completed"` // normal weight, after the healing
	FailedInReturn  int      `json:"failed_in_return"` // sent after the first weight above 0
}

// Seconds is a duration in JSON as a number of seconds.
type Seconds float64

func secondsBetween(from, to time.Time) *Seconds {
	s := Seconds(to.Sub(from).Seconds())
	return &s
}

// evidence is everything that was recorded of a blackout.
type evidence struct {
	cut    time.Time
	healed time.Time // zero: not yet
	notes  []Note
	writes []cloudWrite
	asked  []Request
}

// timelineOf reads the evidence.
func timelineOf(e evidence) Timeline {
	t := Timeline{Cut: e.cut}
	for _, n := range e.notes {
		switch {
		case n.At.Before(e.cut):
		case n.Kind == api.KindVerdict && n.Subject == SiteRoom && n.To == "dark" && t.Detected == nil:
			t.Detected = secondsBetween(e.cut, n.At)
		case n.Kind == api.KindGoal && n.Subject == routeName+"/"+PoolRoom && n.To == "0" && t.Decided == nil:
			t.Decided = secondsBetween(e.cut, n.At)
		}
	}
	var zeroAt, backAt time.Time
	for _, w := range e.writes {
		weight, ok := w.Weight[PoolRoom]
		if !ok || w.At.Before(e.cut) {
			continue
		}
		if weight == 0 && t.Written == nil {
			t.Written, zeroAt = secondsBetween(e.cut, w.At), w.At
		}
		if e.healed.IsZero() || w.At.Before(e.healed) {
			continue
		}
		if weight > 0 && t.ReturnStarted == nil {
			t.ReturnStarted, backAt = secondsBetween(e.healed, w.At), w.At
		}
		if weight == normalWeights[PoolRoom] && t.ReturnCompleted == nil {
			t.ReturnCompleted = secondsBetween(e.healed, w.At)
		}
	}
	if !e.healed.IsZero() {
		t.Healed = secondsBetween(e.cut, e.healed)
	}
	t.countFailures(e, zeroAt, backAt)
	return t
}

func (t *Timeline) countFailures(e evidence, zeroAt, backAt time.Time) {
	for _, r := range e.asked {
		if r.Start.Before(e.cut) {
			continue
		}
		t.Requests++
		if r.OK() {
			continue
		}
		t.Failed++
		t.LastFailed = secondsBetween(e.cut, r.Start)
		switch {
		case !backAt.IsZero() && !r.Start.Before(backAt):
			t.FailedInReturn++
		case !zeroAt.IsZero() && r.Start.After(zeroAt.Add(Propagation)):
			t.FailedAfter++
		}
	}
}

// broken says which promise a blackout with a return broke; nil is none.
func (t Timeline) broken() error {
	errs := []error{t.shiftBroken()}
	switch {
	case t.ReturnStarted == nil:
		errs = append(errs, errors.New("the returned site never got weight again"))
	case t.ReturnCompleted == nil:
		errs = append(errs, errors.New("the returned site never got its normal weight"))
	}
	if t.FailedInReturn > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed during the return", t.FailedInReturn))
	}
	return errors.Join(errs...)
}

// shiftBroken is the same without a return.
func (t Timeline) shiftBroken() error {
	switch {
	case t.Written == nil:
		return errors.New("the weights did not move")
	case t.FailedAfter > 0:
		return fmt.Errorf("%d requests failed after the weights were written and had %s to spread", t.FailedAfter, Propagation)
	}
	return nil
}

// rows is the timeline as a table for people.
func (t Timeline) rows() [][2]string {
	rows := [][2]string{
		{"detected after", after(t.Detected)},
		{"decided after", after(t.Decided)},
		{"weight written after", after(t.Written)},
		{"last failed request sent after", after(t.LastFailed)},
		{"failed requests", fmt.Sprintf("%d of %d", t.Failed, t.Requests)},
		{"failed after write + " + Propagation.String(), strconv.Itoa(t.FailedAfter)},
	}
	if t.Healed != nil {
		rows = append(rows, [][2]string{
			{"uplink restored after", after(t.Healed)},
			{"return started, after restoring", after(t.ReturnStarted)},
			{"return completed, after restoring", after(t.ReturnCompleted)},
			{"failed during the return", strconv.Itoa(t.FailedInReturn)},
		}...)
	}
	return rows
}

func after(s *Seconds) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.2f s", float64(*s))
}
