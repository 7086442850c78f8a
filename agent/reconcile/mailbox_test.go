package reconcile

import (
	"sync"
	"testing"
)

func TestMailboxEmpty(t *testing.T) {
	var m Mailbox[int]
	if v, ok := m.Get(); ok || v != 0 {
		t.Errorf("Get = %d, %t of an empty mailbox", v, ok)
	}
	select {
	case <-m.Fresh():
		t.Error("an empty mailbox delivers")
	default:
	}
}

func TestMailboxKeepsLatest(t *testing.T) {
	var m Mailbox[int]
	for i := range 3 {
		m.Put(i)
	}
	<-m.Fresh()
	if v, ok := m.Get(); !ok || v != 2 {
		t.Errorf("Get = %d, %t, want 2, true", v, ok)
	}
	select {
	case <-m.Fresh():
		t.Error("three Puts delivered twice")
	default:
	}
	if v, ok := m.Get(); !ok || v != 2 {
		t.Errorf("a second Get = %d, %t, want 2, true", v, ok)
	}
}

// Whoever waits for news sees the last value, whatever it missed on the way.
func TestMailboxLosesNoLastValue(t *testing.T) {
	const last = 10000
	var m Mailbox[int]
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; i <= last; i++ {
			m.Put(i)
		}
	})
	for seen := 0; seen != last; {
		<-m.Fresh()
		v, ok := m.Get()
		if !ok || v < seen {
			t.Fatalf("Get = %d, %t after %d", v, ok, seen)
		}
		seen = v
	}
	wg.Wait()
}
