package api

import (
	"sync"
	"testing"
	"time"
)

func TestJournalSince(t *testing.T) {
	for _, tt := range []struct {
		name        string
		added       int
		since       uint64
		n           int
		first, last uint64
	}{
		{"empty", 0, 0, 0, 0, 0},
		{"empty, asked by one who knew an earlier run", 0, 9, 0, 0, 0},
		{"all", 5, 0, 5, 1, 5},
		{"the newer ones", 5, 3, 2, 4, 5},
		{"nothing new", 5, 5, 0, 0, 0},
		{"number of an earlier run", 5, 6, 5, 1, 5},
		{"just full", JournalSize, 0, JournalSize, 1, JournalSize},
		{"wrapped", JournalSize + 10, 0, JournalSize, 11, JournalSize + 10},
		{"wrapped, some lost", JournalSize + 10, 4, JournalSize, 11, JournalSize + 10},
		{"wrapped, the newer ones", JournalSize + 10, JournalSize + 7, 3, JournalSize + 8, JournalSize + 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var j Journal
			for range tt.added {
				j.Add(Event{Kind: KindMember})
			}
			got := j.Since(tt.since)
			if got == nil || len(got) != tt.n {
				t.Fatalf("%d events (nil %t), want %d", len(got), got == nil, tt.n)
			}
			for i, e := range got {
				if want := tt.first + uint64(i); e.Seq != want {
					t.Fatalf("event %d has number %d, want %d", i, e.Seq, want)
				}
			}
			if tt.n > 0 && got[tt.n-1].Seq != tt.last {
				t.Errorf("last = %d, want %d", got[tt.n-1].Seq, tt.last)
			}
		})
	}
}

func TestJournalStampsEvents(t *testing.T) {
	var j Journal
	seoul := time.FixedZone("KST", 9*3600)
	if e := j.Add(Event{At: noon.In(seoul)}); !e.At.Equal(noon) || e.At.Location() != time.UTC {
		t.Errorf("given time became %v", e.At)
	}
	if e := j.Add(Event{}); e.At.IsZero() || e.At.Location() != time.UTC {
		t.Errorf("missing time became %v", e.At)
	}
}

func TestJournalFromManyGoroutines(t *testing.T) {
	var j Journal
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				j.Since(j.Add(Event{}).Seq - 1)
			}
		})
	}
	wg.Wait()
	got := j.Since(0)
	if len(got) != JournalSize || got[len(got)-1].Seq != 8000 {
		t.Errorf("%d events, last %d", len(got), got[len(got)-1].Seq)
	}
}
