package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bench runs a loop over a recording hand in virtual time.
type bench struct {
	*Loop[string]
	start    time.Time
	applied  []string        // wishes, in order
	at       []time.Duration // of each attempt's start
	outcomes []Outcome
	hand     func(ctx context.Context, wish string) (int, error)
	stop     func()
}

// newBench must be called inside a synctest bubble.
func newBench(t *testing.T, opts Options) *bench {
	t.Helper()
	b := &bench{start: time.Now(), hand: func(context.Context, string) (int, error) { return 1, nil }}
	opts.Report = func(o Outcome) { b.outcomes = append(b.outcomes, o) }
	b.Loop = New("test", func(ctx context.Context, wish string) (int, error) {
		b.applied = append(b.applied, wish)
		b.at = append(b.at, time.Since(b.start))
		return b.hand(ctx, wish)
	}, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil on cancel", err)
		}
	}
	return b
}

// pass lets virtual time go by, and then whatever is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLoopAppliesWishOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		defer b.stop()
		pass(time.Hour)
		if len(b.applied) != 0 {
			t.Fatalf("applied %v without a wish", b.applied)
		}
		b.Set("a")
		pass(time.Hour)
		if diff := cmp.Diff([]string{"a"}, b.applied); diff != "" {
			t.Fatalf("applied (-want +got):\n%s", diff)
		}
		want := []Outcome{{Hand: "test", At: b.start.Add(time.Hour), Changed: 1}}
		if diff := cmp.Diff(want, b.outcomes); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
}

func TestLoopDropsOlderWishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		defer b.stop()
		b.hand = func(context.Context, string) (int, error) { time.Sleep(time.Second); return 0, nil }
		b.Set("a")
		synctest.Wait() // the hand is at work
		b.Set("b")
		b.Set("c")
		b.Set("d")
		pass(time.Minute)
		if diff := cmp.Diff([]string{"a", "d"}, b.applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
	})
}

func TestLoopRepeatsToFindDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Every: 10 * time.Second})
		defer b.stop()
		b.Set("a")
		pass(25 * time.Second)
		if diff := cmp.Diff([]time.Duration{0, 10 * time.Second, 20 * time.Second}, b.at); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if got, want := b.outcomes[0].Next, b.start.Add(10*time.Second); !got.Equal(want) {
			t.Errorf("Next = %v, want %v", got, want)
		}
	})
}

func TestLoopPaceCountsFromNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Every: 10 * time.Second})
		defer b.stop()
		b.Set("a")
		pass(5 * time.Second)
		b.Pace(time.Second)
		pass(7500 * time.Millisecond)
		b.Pace(0)
		pass(time.Hour)
		want := []time.Duration{0, 10 * time.Second, 11 * time.Second, 12 * time.Second, 13 * time.Second}
		if diff := cmp.Diff(want, b.at); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

func TestLoopBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{MinBackoff: time.Second, MaxBackoff: 4 * time.Second})
		defer b.stop()
		failures := 5
		b.hand = func(context.Context, string) (int, error) {
			if failures == 0 {
				return 2, nil
			}
			failures--
			return 0, errors.New("throttled")
		}
		b.Set("a")
		pass(time.Hour)
		if len(b.outcomes) != 6 {
			t.Fatalf("%d attempts, want 5 failures and a success", len(b.outcomes))
		}
		for i, most := range []time.Duration{1, 2, 4, 4, 4} {
			most *= time.Second
			o, gap := b.outcomes[i], b.at[i+1]-b.at[i]
			if o.Fails != i+1 || o.Err != "throttled" {
				t.Errorf("outcome %d = %+v", i, o)
			}
			if gap < most/2 || gap > most {
				t.Errorf("wait after failure %d is %s, want %s to %s", i+1, gap, most/2, most)
			}
			if !o.Next.Equal(o.At.Add(gap)) {
				t.Errorf("outcome %d announced %v, the attempt came at %v", i, o.Next, o.At.Add(gap))
			}
		}
		last := b.outcomes[5]
		if last.Err != "" || last.Fails != 0 || last.Changed != 2 || !last.Next.IsZero() {
			t.Errorf("last outcome = %+v", last)
		}
	})
}

// A new wish cuts a long backoff short, and becomes no storm.
func TestLoopNewWishWhileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{MinBackoff: 250 * time.Millisecond, MaxBackoff: time.Hour})
		defer b.stop()
		b.hand = func(context.Context, string) (int, error) { return 0, errors.New("down") }
		b.Set("a")
		pass(10 * time.Minute) // the backoff is minutes by now
		for time.Since(b.start)-b.at[len(b.at)-1] < time.Second {
			pass(time.Second)
		}
		was := len(b.applied)
		b.Set("b")
		synctest.Wait()
		if len(b.applied) != was+1 || b.applied[was] != "b" {
			t.Fatalf("the new wish waited: %v", b.applied[was:])
		}
		for range 1000 {
			b.Set("c")
			pass(time.Millisecond)
		}
		if n := len(b.applied) - was - 1; n < 3 || n > 4 {
			t.Errorf("%d attempts in a second of new wishes, want one per 250ms", n)
		}
	})
}

func TestLoopAttemptHasDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Timeout: 3 * time.Second, MinBackoff: time.Hour, MaxBackoff: time.Hour})
		defer b.stop()
		b.hand = func(ctx context.Context, _ string) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		b.Set("a")
		pass(10 * time.Second)
		if len(b.outcomes) != 1 || b.outcomes[0].Took != 3*time.Second || b.outcomes[0].Err == "" {
			t.Errorf("outcomes = %+v, want one failure after 3s", b.outcomes)
		}
	})
}

func TestLoopStops(t *testing.T) {
	t.Run("in an attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Options{})
			b.hand = func(ctx context.Context, _ string) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
			b.Set("a")
			synctest.Wait()
			b.stop()
			if len(b.outcomes) != 0 {
				t.Errorf("an interrupted attempt was reported: %+v", b.outcomes)
			}
		})
	})
	t.Run("in a rest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Options{MinBackoff: time.Minute, MaxBackoff: time.Minute})
			b.hand = func(context.Context, string) (int, error) { return 0, errors.New("down") }
			b.Set("a")
			synctest.Wait()
			b.Set("b")
			synctest.Wait()
			b.stop()
			if len(b.applied) != 1 {
				t.Errorf("applied %v, want no second attempt", b.applied)
			}
		})
	})
	// select picks at random among what is ready: without a look at ctx, half
	// of these loops would write after they were told to stop.
	t.Run("with a wish waiting", func(t *testing.T) {
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			l := New("test", func(context.Context, string) (int, error) {
				t.Error("applied after the end")
				return 0, nil
			}, Options{})
			l.Set("a")
			if err := l.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name        string
		fails       int
		least, most time.Duration
		r           float64
		want        time.Duration
	}{
		{"first, shortest", 1, 250 * ms, 15000 * ms, 0, 125 * ms},
		{"first, half", 1, 250 * ms, 15000 * ms, 0.5, 187500 * time.Microsecond},
		{"second", 2, 250 * ms, 15000 * ms, 0, 250 * ms},
		{"third", 3, 250 * ms, 15000 * ms, 0, 500 * ms},
		{"bounded", 7, 250 * ms, 15000 * ms, 0, 7500 * ms},
		{"bounded for ever", 1 << 30, 250 * ms, 15000 * ms, 0, 7500 * ms},
		{"least above most", 1, 30 * time.Second, 15000 * ms, 0, 7500 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Backoff(tt.fails, tt.least, tt.most, tt.r); got != tt.want {
				t.Errorf("Backoff = %s, want %s", got, tt.want)
			}
		})
	}
}
