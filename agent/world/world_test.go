package world

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

func member(id discovery.NodeID, state discovery.MemberState) discovery.Member {
	return discovery.Member{Record: discovery.Record{Identity: discovery.Identity{ID: id}}, State: state}
}

func newWorld() *World {
	return New(discovery.Identity{ID: "aa"}, decide.Settings{}, nil)
}

// TestSnapshotIsNumberedAndStill: every fact gives a new number, and a
// snapshot in a reader's hand never changes.
func TestSnapshotIsNumberedAndStill(t *testing.T) {
	w := newWorld()
	before := w.Snapshot(time.Now())
	w.Members([]discovery.Member{member("aa", discovery.StateAlive)})
	after := w.Snapshot(time.Now())
	if len(before.Members) != 0 {
		t.Error("a snapshot changed after it was given out")
	}
	if after.Version <= before.Version || len(after.Members) != 1 {
		t.Errorf("version %d after %d, %d members", after.Version, before.Version, len(after.Members))
	}
}

// TestSettled: settled means three seconds without a change of the membership;
// a new reading of the same membership is no change.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		steps := []struct {
			after   time.Duration
			members []discovery.Member
			settled bool
		}{
			{0, []discovery.Member{member("aa", discovery.StateAlive)}, false},
			{2 * time.Second, []discovery.Member{member("aa", discovery.StateAlive)}, false},
			{time.Second, nil, true},
			{0, []discovery.Member{member("aa", discovery.StateAlive), member("bb", discovery.StateKnown)}, false},
			{2900 * time.Millisecond, nil, false},
			{0, []discovery.Member{member("aa", discovery.StateAlive), member("bb", discovery.StateAlive)}, false},
			{SettleAfter, nil, true},
		}
		for i, s := range steps {
			time.Sleep(s.after)
			if s.members != nil {
				w.Members(s.members)
			}
			if got := w.Snapshot(time.Now()).Settled; got != s.settled {
				t.Errorf("step %d: settled %v, want %v", i, got, s.settled)
			}
		}
	})
}

// TestReadingsMerge: a reading of some objects keeps the others.
func TestReadingsMerge(t *testing.T) {
	w := newWorld()
	w.Splits([]discovery.Split{{Rule: "b", Sticky: true}, {Rule: "a"}})
	w.Splits([]discovery.Split{{Rule: "c"}, {Rule: "b", Err: "throttled"}})
	want := []discovery.Split{{Rule: "a"}, {Rule: "b", Err: "throttled"}, {Rule: "c"}}
	if diff := cmp.Diff(want, w.Snapshot(time.Now()).Cloud.Splits); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFreshCoalesces: many changes wake the reader once.
func TestFreshCoalesces(t *testing.T) {
	w := newWorld()
	for range 10 {
		w.Checks(nil)
	}
	<-w.Fresh()
	select {
	case <-w.Fresh():
		t.Error("woken twice for one burst")
	default:
	}
}
