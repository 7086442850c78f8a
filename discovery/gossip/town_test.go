package gossip

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"drawbridge/discovery"
)

// roll is what the house of one node keeps of notices: a set of texts signed by
// one key. It counts how often it had to check a signature.
type roll struct {
	key ed25519.PublicKey

	mu     sync.Mutex // guards the fields below
	held   map[string]bool
	sum    [8]byte // of held; zero: to be computed
	checks int
	revise func(text string) // called for news, without the lock
}

func (r *roll) judge(b []byte) bool {
	news := r.add(b)
	if r.revise != nil && news {
		r.revise(string(b[ed25519.SignatureSize:]))
	}
	return news
}

func (r *roll) add(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks++
	if len(b) < ed25519.SignatureSize || !ed25519.Verify(r.key, b[ed25519.SignatureSize:], b[:ed25519.SignatureSize]) || r.held[string(b)] {
		return false
	}
	r.held[string(b)], r.sum = true, [8]byte{}
	return true
}

func (r *roll) notices() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([][]byte, 0, len(r.held))
	for b := range r.held {
		list = append(list, []byte(b))
	}
	slices.SortFunc(list, slices.Compare)
	return list
}

func (r *roll) digest() [8]byte {
	r.mu.Lock()
	sum := r.sum
	r.mu.Unlock()
	if sum != [8]byte{} {
		return sum
	}
	h := sha256.New()
	for _, b := range r.notices() {
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	sum = [8]byte(h.Sum(nil))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum = sum
	return sum
}

func (r *roll) has(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[string(b)]
}

func (r *roll) checked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checks
}

// town gives every node of a village its roll. What is revoked there is refused
// by Verify, and checked again at once.
type town struct {
	root  authority
	mu    sync.Mutex // guards rolls
	rolls map[discovery.NodeID]*roll
}

func newTown(root authority) *town {
	return &town{root: root, rolls: map[discovery.NodeID]*roll{}}
}

// keep is a change of Options.
func (t *town) keep(o *Options) {
	r := &roll{key: t.root.key.Public().(ed25519.PublicKey), held: map[string]bool{}}
	t.mu.Lock()
	if old := t.rolls[o.Self.ID]; old != nil { // a restart: from its disk
		r.held = old.held
	}
	t.rolls[o.Self.ID] = r
	t.mu.Unlock()
	o.Judge, o.Notices, o.Digest = r.judge, r.notices, r.digest
	verify := o.Verify
	o.Verify = func(c [][]byte) (discovery.Identity, ed25519.PublicKey, error) {
		id, key, err := verify(c)
		if err == nil && r.has(t.revocation(id.ID)) {
			return discovery.Identity{}, nil, errors.New("revoked")
		}
		return id, key, err
	}
}

func (t *town) of(g *villager) *roll {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rolls[g.id.ID]
}

// notice signs a text.
func (t *town) notice(text string) []byte {
	return append(ed25519.Sign(t.root.key, []byte(text)), text...)
}

func (t *town) revocation(id discovery.NodeID) []byte { return t.notice("revoked " + string(id)) }

// publish is what a house does with a notice of its own.
func (t *town) publish(g *villager, b []byte) {
	t.of(g).judge(b)
	g.Publish(b)
}

// told reports whether all of the list have all the notices.
func (t *town) told(list []*villager, notices ...[]byte) func() bool {
	return func() bool {
		for _, g := range list {
			for _, b := range notices {
				if !t.of(g).has(b) {
					return false
				}
			}
		}
		return true
	}
}
