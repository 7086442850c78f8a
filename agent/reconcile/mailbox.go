package reconcile

import "sync"

// Mailbox holds the latest value only: a slow reader misses the old ones. The
// zero value is empty and ready.
type Mailbox[T any] struct {
	mu    sync.Mutex // guards the fields below
	val   T
	full  bool
	fresh chan struct{}
}

// Put replaces the value and wakes the reader.
func (m *Mailbox[T]) Put(v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.val, m.full = v, true
	select {
	case m.signal() <- struct{}{}:
	default:
	}
}

// Get returns the latest value; ok is false while there was none.
func (m *Mailbox[T]) Get() (v T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.val, m.full
}

// Fresh delivers once after one or several Puts. For a single reader.
func (m *Mailbox[T]) Fresh() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.signal()
}

func (m *Mailbox[T]) signal() chan struct{} {
	if m.fresh == nil {
		m.fresh = make(chan struct{}, 1)
	}
	return m.fresh
}
