package gossip

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// A notice is told by many, and judging one costs signatures. So each is judged
// once, and each peer may make this node judge so many only.
const (
	maxJudged = 4096 // in each of two generations
	// refusedNotice is how long a notice that was no news is not judged again,
	// unless other news came: that may be what made it right.
	refusedNotice = 10 * time.Minute

	// For one peer: any notice, and those that were no news, which is all that
	// a peer without an issuer's key can send.
	judgeBurst  = maxNotices
	judgeRate   = 256 // per second
	noNewsBurst = 256
	noNewsRate  = 8 // per second
)

// fingerprint names a notice.
type fingerprint [sha256.Size]byte

// judged remembers notices that were judged, and what peers made us judge. It
// is safe for concurrent use; the zero value has judged none.
type judged struct {
	mu         sync.Mutex // guards the fields below
	young, old map[fingerprint]judgement
	news       uint64 // so far
	peers      map[netip.Addr]*allowance
}

// judgement is of one notice.
type judgement struct {
	news  bool      // or being judged
	after uint64    // how much news there was before
	at    time.Time //
}

// allowance is what one peer may make us judge.
type allowance struct{ all, noNews bucket }

// known reports whether a notice needs no judgement.
func (j *judged) known(f fingerprint, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	v, ok := j.young[f]
	if !ok {
		if v, ok = j.old[f]; ok {
			j.keep(f, v)
		}
	}
	return ok && (v.news || v.after == j.news && now.Sub(v.at) < refusedNotice)
}

// begin asks whether a notice from a peer may be judged now. If so it counts as
// known until end.
func (j *judged) begin(f fingerprint, from netip.Addr, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := j.allowance(from)
	if !a.noNews.take(now, noNewsBurst, noNewsRate) {
		return false
	}
	if !a.all.take(now, judgeBurst, judgeRate) {
		a.noNews.give()
		return false
	}
	j.keep(f, judgement{news: true, at: now})
	return true
}

// end says how the judgement was. News costs the peer less.
func (j *judged) end(f fingerprint, from netip.Addr, news bool, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if news {
		j.allowance(from).noNews.give()
		j.news++
	}
	j.keep(f, judgement{news: news, after: j.news, at: now})
}

// own notes a notice of this node's, which needs no judgement.
func (j *judged) own(f fingerprint, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.news++
	j.keep(f, judgement{news: true, after: j.news, at: now})
}

// keep remembers a judgement; what was not asked for during the last maxJudged
// of them is forgotten. The lock is held.
func (j *judged) keep(f fingerprint, v judgement) {
	if j.young == nil || len(j.young) >= maxJudged {
		j.old, j.young = j.young, make(map[fingerprint]judgement)
	}
	j.young[f] = v
}

// allowance is the peer's. The lock is held.
func (j *judged) allowance(from netip.Addr) *allowance {
	if j.peers == nil || len(j.peers) > maxNodes {
		j.peers = map[netip.Addr]*allowance{}
	}
	a := j.peers[from]
	if a == nil {
		a = &allowance{}
		j.peers[from] = a
	}
	return a
}
