package lab

import (
	"context"
	"math/rand/v2"
	"sync"
)

// line is the machine room's uplink on the loopback ground: it can lose a
// share of what passes, or all of it.
type line struct {
	mu      sync.Mutex // guards percent and healed
	percent int
	healed  chan struct{} // closed while the line is not cut
}

func newLine() *line {
	l := &line{healed: make(chan struct{})}
	close(l.healed)
	return l
}

// fault sets the share of packets that is lost, in percent: 0 heals, 100 cuts.
func (l *line) fault(percent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.percent >= 100
	l.percent = percent
	switch cut := percent >= 100; {
	case cut && !was:
		l.healed = make(chan struct{})
	case !cut && was:
		close(l.healed)
	}
}

// drops decides the fate of one packet.
func (l *line) drops() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.percent > 0 && rand.IntN(100) < l.percent
}

// wait blocks while the line is cut: what a stream does, which resends.
func (l *line) wait(ctx context.Context) error {
	l.mu.Lock()
	healed := l.healed
	l.mu.Unlock()
	select {
	case <-healed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
