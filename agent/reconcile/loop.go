package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Apply makes reality equal to the wish, or as near as one attempt can. It
// returns how many changes it made. It must be idempotent.
type Apply[W any] func(ctx context.Context, wish W) (changed int, err error)

// Outcome is the result of one attempt of a hand.
type Outcome struct {
	Hand    string
	At      time.Time     // when the attempt ended
	Took    time.Duration //
	Changed int           // changes made
	Err     string        // "" on success
	Fails   int           // failures in a row, this one included
	Next    time.Time     // of the next attempt without a new wish; zero: none
}

// Options of a loop. The zero value works.
type Options struct {
	// Every repeats a successful Apply, to find drift. 0: only new wishes.
	Every time.Duration
	// Timeout bounds one attempt; 0 means 10 s.
	Timeout time.Duration
	// MinBackoff and MaxBackoff bound the wait after failures; 0 means 250 ms and 15 s.
	MinBackoff, MaxBackoff time.Duration
	Logger                 *slog.Logger
	// Report receives every outcome, from the loop's goroutine.
	Report func(Outcome)
}

// Loop is one hand at work.
type Loop[W any] struct {
	name  string
	apply Apply[W]
	opts  Options
	box   Mailbox[W]
	every atomic.Int64 // time.Duration, see Pace
}

// New makes a loop; Run starts it.
func New[W any](name string, apply Apply[W], opts Options) *Loop[W] {
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.MinBackoff == 0 {
		opts.MinBackoff = 250 * time.Millisecond
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = 15 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Loop[W]{name: name, apply: apply, opts: opts}
	l.every.Store(int64(opts.Every))
	return l
}

// Pace changes Options.Every from the next attempt on: a hand reads more often
// while something is under way.
func (l *Loop[W]) Pace(every time.Duration) { l.every.Store(int64(every)) }

// Set hands over the newest wish and returns at once. A new wish does not wait
// for a backoff to end, but a failing hand rests for MinBackoff at least, so
// that a plan that changes many times a second does not become a storm of
// calls. Set repeats a wish that equals the last one; whoever calls it compares.
func (l *Loop[W]) Set(wish W) { l.box.Put(wish) }

// String names the task.
func (l *Loop[W]) String() string { return "hand " + l.name }

// Run works until ctx ends and returns nil then; it starts no attempt after
// that.
func (l *Loop[W]) Run(ctx context.Context) error {
	fails := 0
	var timer <-chan time.Time // of the repetition; nil: none is due
	var rest time.Time         // a failing hand starts nothing before it
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.box.Fresh():
		case <-timer:
		}
		if pause(ctx, time.Until(rest)) != nil {
			return nil
		}
		wish, ok := l.box.Get()
		if !ok {
			continue
		}
		var wait time.Duration
		fails, wait = l.attempt(ctx, wish, fails)
		timer, rest = nil, time.Time{}
		if wait > 0 {
			timer = time.After(wait)
		}
		if fails > 0 {
			rest = time.Now().Add(min(wait, l.opts.MinBackoff))
		}
	}
}

// pause waits for d, or for the end of ctx, which is the error. It looks at
// ctx even when there is nothing to wait for.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// attempt applies once and says how long to wait until the next; 0: no need.
func (l *Loop[W]) attempt(ctx context.Context, wish W, fails int) (int, time.Duration) {
	start := time.Now()
	actx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	changed, err := l.apply(actx, wish)
	cancel()
	if ctx.Err() != nil {
		return fails, 0
	}
	out := Outcome{Hand: l.name, At: time.Now(), Took: time.Since(start), Changed: changed}
	wait := time.Duration(l.every.Load())
	if err != nil {
		fails++
		wait = Backoff(fails, l.opts.MinBackoff, l.opts.MaxBackoff, rand.Float64())
		out.Err, out.Fails = err.Error(), fails
		l.opts.Logger.Warn("apply", "hand", l.name, "err", err, "fails", fails, "retry_in", wait)
	} else {
		if fails > 0 {
			l.opts.Logger.Info("recovered", "hand", l.name, "fails", fails)
		}
		fails = 0
	}
	if wait > 0 {
		out.Next = out.At.Add(wait)
	}
	if l.opts.Report != nil {
		l.opts.Report(out)
	}
	return fails, wait
}

// Backoff is the wait after the given number of failures in a row: doubling
// from least to most, with the last half random ("equal jitter"), so that
// agents that failed together do not return together. r is in [0,1).
func Backoff(fails int, least, most time.Duration, r float64) time.Duration {
	d := least
	for i := 1; i < fails && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d/2 + time.Duration(r*float64(d/2))
}
