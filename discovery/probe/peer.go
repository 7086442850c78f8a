package probe

import (
	"net"
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// ringLen is how many own packets a peer may echo late: 5 s of echo requests.
const ringLen = 256

// quietRing is the same for a quiet peer, which is sent an answer a second.
const quietRing = 16

// Echo answers per peer: twice what an honest peer asks for, so that a hostile
// one cannot make us send at its pace.
const (
	answerBurst = 16
	answerEvery = 10 * time.Millisecond
)

// maxPeerViews bounds what one gateway may make us remember.
const maxPeerViews = 256

// peer is what we know of one node of the wish. Times are plain values given by
// the caller; the peer reads no clock.
type peer struct {
	discovery.ProbePeer
	to    netip.AddrPort
	udp   *net.UDPAddr // the same, for sockets that want it so
	added time.Time

	// Own packets to the peer.
	seq    uint64        // newest sent
	first  uint64        // sequences up to this were sent in an earlier stay in the wish
	sent   []time.Time   // a ring of ringLen or quietRing
	sentAt time.Time     // of the newest packet that was not an answer
	jitter time.Duration // of the wait after it
	mood   mood          // of its group

	// Its packets to us.
	lives   lives
	heard   uint64
	heardAt time.Time // when sequence heard came in
	warned  time.Time // that its lives alternate
	lastAt  time.Time // when any valid packet came in
	askedAt time.Time // when one came in that was no answer: the peer probes us

	// What they prove.
	proofSeq uint64
	proof    time.Time
	rtt      time.Duration

	views []discovery.View // told by the peer; sorted when reported

	answers credit
	extras
}

// stamp notes an own packet sent now and returns its sequence.
func (p *peer) stamp(now time.Time) uint64 {
	p.seq++
	if p.sent == nil {
		p.grow()
	}
	p.sent[p.seq%uint64(len(p.sent))] = now
	return p.seq
}

// grow makes the ring as long as the peer's part needs; it never shrinks.
func (p *peer) grow() {
	want := ringLen
	if p.Quiet {
		want = quietRing
	}
	if len(p.sent) >= want {
		return
	}
	ring := make([]time.Time, want)
	for i := range min(uint64(len(p.sent)), p.seq) {
		seq := p.seq - i
		ring[seq%uint64(want)] = p.sent[seq%uint64(len(p.sent))]
	}
	p.sent = ring
}

// receive takes in what a valid packet says of the path and reports whether it
// gave newer proof, and what its boot id says.
func (p *peer) receive(k *packet, self uint64, now time.Time) (proof bool, of change) {
	p.lastAt = now
	if k.kind != kindAnswer {
		p.askedAt = now
	}
	p.speaks = k.speaks
	of = p.lives.hear(k.boot, now)
	if of != sameLife && of != lateLife { // another life: its sequence is its own
		p.heard = 0
	}
	if of != lateLife && k.seq > p.heard {
		p.heard, p.heardAt = k.seq, now
	}
	return k.heardBoot == self && p.prove(k.heard, k.held, now), of
}

// prove takes an echo of own packet seq, held by the peer for so long.
func (p *peer) prove(seq uint64, held time.Duration, now time.Time) bool {
	if seq <= p.proofSeq || seq <= p.first || seq > p.seq || p.seq-seq >= uint64(len(p.sent)) {
		return false
	}
	p.proofSeq, p.proof = seq, p.sent[seq%uint64(len(p.sent))]
	if rtt := now.Sub(p.proof) - held; held >= 0 && rtt > 0 {
		p.rtt = rtt
	}
	return true
}

// fill sets the fields of an outgoing packet that concern the peer.
func (p *peer) fill(k *packet, now time.Time) {
	k.seq = p.stamp(now)
	k.heardBoot, k.heard, k.held = p.lives.boot, p.heard, -1
	if p.heard != 0 {
		k.held = now.Sub(p.heardAt)
	}
}

// mayAnswer takes one answer from the peer's credit.
func (p *peer) mayAnswer(now time.Time) bool {
	return p.answers.take(now, answerEvery, answerBurst)
}

// hear takes in views and reports whether a state changed and how many did not
// fit. It allocates only for sites that were not told before.
func (p *peer) hear(views []told, now time.Time) (changed bool, dropped int) {
	for _, t := range views {
		v := p.view(t.site)
		if v == nil {
			dropped++
			continue
		}
		changed = changed || v.State != t.state
		v.State, v.LastProof, v.Heard = t.state, t.age, now
	}
	return changed, dropped
}

// view finds or makes the entry of a site; nil when there are too many.
func (p *peer) view(site []byte) *discovery.View {
	for i := range p.views {
		if p.views[i].Site == string(site) {
			return &p.views[i]
		}
	}
	if len(p.views) == maxPeerViews {
		return nil
	}
	p.views = append(p.views, discovery.View{Observer: p.Node, Site: string(site)})
	return &p.views[len(p.views)-1]
}

// observation is what the sight says of the peer.
func (p *peer) observation(now time.Time) discovery.Observation {
	o := discovery.Observation{Node: p.Node, Proof: p.proof, Heard: p.lastAt, RTT: p.rtt}
	o.Forks, o.Forked = p.lives.returns(now)
	if now.Sub(p.seenAt) < seenForget {
		o.Seen = p.seen
	}
	p.sizing.tell(&o)
	return o
}
