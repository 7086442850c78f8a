package probe

import "time"

// A restart begins a new life under a new boot id and never goes back, so an
// earlier boot id that is heard again is proof of a second process with the
// same identity: a copied state directory, a cloned machine. WireGuard gives a
// peer one session, so two copies take it from each other and are heard in turn.
const (
	livesKept  = 4           // boot ids: shows up to that many and one more in turn
	forksKept  = 16          // times of returns
	lateAfter  = time.Second // what comes sooner is a packet that was under way at the restart
	forkWindow = time.Minute // of Observation.Forks
)

// change is what the boot id of a packet says of its sender.
type change uint8

const (
	sameLife  change = iota
	firstLife        // never heard before
	newLife          // a restart
	lateLife         // an earlier life's packet that was under way
	oldLife          // an earlier life speaks again
)

// lives remembers which lives of a peer were heard. The zero value has heard
// none.
type lives struct {
	boot  uint64 // the present one; 0: not heard yet
	past  [livesKept]life
	next  int // of past, to be written
	forks [forksKept]time.Time
	count int // of all returns; forks[(count-1)%forksKept] is the newest
}

// life is one that another took the place of.
type life struct {
	boot uint64
	left time.Time // when it was taken
}

// hear takes the boot id of a packet that came in now. A late packet changes
// nothing.
func (l *lives) hear(boot uint64, now time.Time) change {
	switch l.boot {
	case boot:
		return sameLife
	case 0:
		l.boot = boot
		return firstLife
	}
	was := newLife
	for i := range l.past {
		p := &l.past[i]
		if p.boot != boot {
			continue
		}
		if now.Sub(p.left) <= lateAfter {
			return lateLife
		}
		was = oldLife
		*p = life{boot: l.boot, left: now}
		l.forks[l.count%forksKept] = now
		l.count++
	}
	if was == newLife {
		l.past[l.next] = life{boot: l.boot, left: now}
		l.next = (l.next + 1) % livesKept
	}
	l.boot = boot
	return was
}

// returns counts the returns of the last minute, and tells the newest.
func (l *lives) returns(now time.Time) (n int, newest time.Time) {
	if l.count == 0 {
		return 0, time.Time{}
	}
	for _, at := range l.forks[:min(l.count, forksKept)] {
		if now.Sub(at) < forkWindow {
			n++
		}
	}
	return n, l.forks[(l.count-1)%forksKept]
}
