package mtu

import (
	"net/netip"
	"time"
)

const (
	confirm = 2 // that many arrived: the size passes
	check   = 1 // the same for one that passed before
	refute  = 3 // that many in a row were lost while small packets passed: it does not
	giveUp  = 4 // the same for one that passed before: at 5 % loss less than one chance in 100,000

	raiseEvery = 10 * time.Minute // RFC 8899, section 5.1.1, PMTU_RAISE_TIMER
	// The same for a while after a path shrank, and when nothing was found at
	// all: chance or a passing detour may have been the cause.
	againEvery = time.Minute
	// A confirmed size is checked when so much was sent since the last time,
	// and now and then: a path that is not used may shrink unseen.
	checkBytes = 16 << 10
	checkLeast = 3 * time.Second
	checkMost  = time.Minute

	deafAfter = 5 * time.Second // without any word on a size: the peer cannot tell
	deafRest  = time.Minute
	// A new attempt at the same size waits until the old one's figures are gone.
	settle = time.Second
)

// Facts is what is known of a path.
type Facts struct {
	Limit int  // of the device; nothing larger can be sent
	Fresh bool // small packets pass, there and back
	// Tried is the size on its way now, Whole and Lost how many of it in a row
	// arrived or did not.
	Tried, Whole, Lost int
	// At is the underlay address of the peer; another one is another path.
	At   netip.AddrPort
	Sent uint64 // bytes to the peer so far
}

// Memory is what is remembered of a path. The zero value is a path of which
// nothing is known. It is plain data and may be written as JSON.
type Memory struct {
	Good      int            `json:"good,omitempty"` // largest that is known to pass; 0 none
	Bad       int            `json:"bad,omitempty"`  // smallest that did not in this search; 0 none
	Was       int            `json:"was,omitempty"`  // largest that passed before the path shrank or changed; 0 none
	Fell      int            `json:"fell,omitempty"` // the one that was swallowed last; 0 none since something passed
	Limit     int            `json:"limit,omitempty"`
	Searching bool           `json:"searching,omitempty"`
	Asked     int            `json:"asked,omitempty"` // to be tried now; 0 none
	AskedAt   time.Time      `json:"asked_at,omitzero"`
	Rest      time.Time      `json:"rest,omitzero"`    // nothing is tried before
	Raise     time.Time      `json:"raise,omitzero"`   // larger ones are tried again; zero: at once
	Checked   time.Time      `json:"checked,omitzero"` // when Good was confirmed last
	Sent      uint64         `json:"sent,omitempty"`   // at that time
	Hole      time.Time      `json:"hole,omitzero"`    // when Was began to be swallowed; zero: it was not, or passes again
	At        netip.AddrPort `json:"at,omitzero"`
}

// MTU is the size in force under a device's limit.
func (m Memory) MTU(limit int) int {
	switch {
	case m.Good > 0:
		return min(m.Good, limit)
	case m.Bad > 0 && m.Bad <= base, m.Fell > 0 && m.Fell <= base:
		return min(least, limit)
	}
	return min(base, limit)
}

// Measured reports whether the size in force was confirmed by the other end.
func (m Memory) Measured() bool { return m.Good > 0 }

// Step is the memory after now. A search asks for sizes only when it may:
// whoever has many paths lets few of them search at once.
func (m Memory) Step(now time.Time, f Facts, may bool) Memory {
	if f.Limit > m.Limit {
		m.Raise = time.Time{}
	}
	m.Limit, m.Good = f.Limit, min(m.Good, f.Limit)
	m.move(now, f)
	m.judge(now, f)
	switch {
	case !f.Fresh:
		if m.Asked != 0 {
			m.Asked, m.Rest = 0, now.Add(settle)
		}
	case m.Asked != 0:
		heard := f.Tried == m.Asked && f.Whole+f.Lost > 0
		if !heard && now.Sub(m.AskedAt) >= deafAfter {
			m.Asked, m.Rest = 0, now.Add(deafRest)
		}
	case !now.Before(m.Rest):
		m.choose(now, f, may)
	}
	return m
}

// move begins anew on another path. What passed on the old one is tried first.
func (m *Memory) move(now time.Time, f Facts) {
	if !f.At.IsValid() || f.At == m.At {
		return
	}
	if m.At.IsValid() {
		*m = Memory{Was: max(m.Was, m.Good), Limit: m.Limit, Rest: later(m.Rest, now.Add(settle))}
	}
	m.At = f.At
}

// judge takes what became of the size that was asked for.
func (m *Memory) judge(now time.Time, f Facts) {
	if m.Asked == 0 || f.Tried != m.Asked {
		return
	}
	need, most := check, giveUp
	if m.Searching {
		need, most = confirm, refute
	}
	switch {
	case f.Whole >= need:
		m.passed(now, f)
	case f.Lost < most || !f.Fresh:
	case m.Searching:
		m.Bad, m.Asked = m.Asked, 0
	default: // it passed before
		*m = Memory{
			Was: max(m.Was, m.Good), Fell: m.Good, Hole: now,
			Searching: true, Rest: now.Add(settle), Limit: m.Limit, At: m.At,
		}
	}
}

func (m *Memory) passed(now time.Time, f Facts) {
	m.Good, m.Asked, m.Fell = m.Asked, 0, 0
	m.Checked, m.Sent = now, f.Sent
	if m.Good >= m.Was {
		m.Was, m.Hole = 0, time.Time{}
	}
}

// choose picks what is tried next, if anything.
func (m *Memory) choose(now time.Time, f Facts, may bool) {
	if !m.Searching && m.Good < f.Limit && !now.Before(m.Raise) {
		m.Searching, m.Bad = true, 0
	}
	switch {
	case m.Searching && may:
		if s := next(m.Good, m.Bad, f.Limit, m.Fell, m.Was); s != 0 {
			m.ask(now, s)
			return
		}
		m.Searching, m.Raise = false, now.Add(raiseEvery)
		if m.Good == 0 || now.Sub(m.Hole) < raiseEvery {
			m.Raise = now.Add(againEvery)
		}
	case !m.Searching && m.Good > 0 && m.stale(now, f):
		m.ask(now, m.Good)
	}
}

func (m *Memory) ask(now time.Time, size int) { m.Asked, m.AskedAt = size, now }

// stale: the confirmed size is to be checked.
func (m *Memory) stale(now time.Time, f Facts) bool {
	switch since := now.Sub(m.Checked); {
	case since < checkLeast:
		return false
	case since >= checkMost, f.Sent < m.Sent: // the device counts anew
		return true
	}
	return f.Sent-m.Sent >= checkBytes
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
