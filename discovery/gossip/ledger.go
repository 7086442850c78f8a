package gossip

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// ledger is the caller's notices as they were under one digest.
type ledger struct {
	digest [8]byte
	list   []statement // nil: not read yet
}

// statement is a notice with its name.
type statement struct {
	name   digest
	notice []byte
}

// heldLen is the form in which a node tells what it holds: Digest, then how
// many there are.
const heldLen = 8 + 4

// exchanges reports whether notices are exchanged.
func (g *Gossip) exchanges() bool {
	return g.opt.Judge != nil && g.opt.Notices != nil && g.opt.Digest != nil
}

// read gives the notices that hold, the largest first: the rare large ones tell
// of roots, and may decide what the others are worth. They are read from the
// caller when its digest changed.
func (g *Gossip) read() ledger {
	n := &g.notices
	d := g.opt.Digest()
	n.mu.Lock()
	l := n.ledger
	n.mu.Unlock()
	if l.list != nil && l.digest == d {
		return l
	}
	l = ledger{digest: d, list: []statement{}}
	for _, b := range g.opt.Notices() {
		if len(b) > 0 && len(b) <= maxNotice {
			l.list = append(l.list, statement{digestOf(b), b})
		}
	}
	slices.SortFunc(l.list, func(a, b statement) int {
		return cmp.Or(cmp.Compare(len(b.notice), len(a.notice)), bytes.Compare(a.notice, b.notice))
	})
	n.mu.Lock()
	n.ledger = l
	n.mu.Unlock()
	return l
}

// held is what this node tells of its notices.
func (g *Gossip) held() []byte { return g.read().told() }

func (l ledger) told() []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(l.digest[:]), uint32(len(l.list)))
}

// lacking takes what somebody lacks who holds the named ones, up to maxAnswer
// bytes, and reports whether there is more.
func (l ledger) lacking(names []digest) (list [][]byte, more bool) {
	has := make(map[digest]bool, len(names))
	for _, name := range names {
		has[name] = true
	}
	size := 0
	for _, s := range l.list {
		if has[s.name] {
			continue
		}
		if size += len(s.notice); size > maxAnswer || len(list) == maxNotices {
			return list, true
		}
		list = append(list, s.notice)
	}
	return list, false
}

// A fetch names what its sender holds, so that only the rest is answered.

func appendNames(b []byte, l ledger) []byte {
	for _, s := range l.list[:min(len(l.list), maxNotices)] {
		b = append(b, s.name[:]...)
	}
	return b
}

func decodeNames(b []byte) ([]digest, error) {
	if len(b)%len(digest{}) != 0 || len(b) > maxNotices*len(digest{}) {
		return nil, errMalformed
	}
	names := make([]digest, 0, len(b)/len(digest{}))
	for ; len(b) > 0; b = b[len(digest{}):] {
		names = append(names, digest(b[:len(digest{})]))
	}
	return names, nil
}

// The answer begins with 1 if there is more than fits, else 0; each notice
// follows its length in base 128.

func appendNotices(b []byte, list [][]byte, more bool) []byte {
	var flag byte
	if more {
		flag = 1
	}
	b = append(b, flag)
	for _, n := range list {
		b = append(binary.AppendUvarint(b, uint64(len(n))), n...)
	}
	return b
}

// decodeNotices reads an answer. The result aliases b.
func decodeNotices(b []byte) (list [][]byte, more bool, err error) {
	r := &reader{b: b}
	flag := r.u8()
	for len(r.b) > 0 && !r.bad {
		n := r.take(int(r.uvarint(maxNotice)))
		if len(n) == 0 || len(list) == maxNotices {
			return nil, false, errMalformed
		}
		list = append(list, n)
	}
	if r.bad || flag > 1 {
		return nil, false, errMalformed
	}
	return list, flag == 1, nil
}
