package gossip

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

// preferNew prefers a chain whose issuer, the second certificate, is the newer.
func preferNew(held, offered [][]byte) bool {
	return len(held) > 1 && len(offered) > 1 && bytes.Compare(held[1], offered[1]) < 0
}

// under is a person's chain with an issuer behind the leaf.
func under(p *person, issuer string) [][]byte { return [][]byte{p.chain[0], []byte(issuer)} }

func TestChainUnderAnotherIssuerReplaces(t *testing.T) {
	tests := []struct {
		name    string
		prefer  func(held, offered [][]byte) bool
		offered func(a authority, p *person) [][]byte
		want    bool
	}{
		{"newer issuer, same leaf", preferNew, func(_ authority, p *person) [][]byte { return under(p, "root 3") }, true},
		{"older issuer, same leaf", preferNew, func(_ authority, p *person) [][]byte { return under(p, "root 1") }, false},
		{"newer issuer, nobody prefers", nil, func(_ authority, p *person) [][]byte { return under(p, "root 3") }, false},
		{"same end, other leaf", preferNew, func(a authority, p *person) [][]byte {
			id := p.id
			id.Name = "renamed"
			return [][]byte{a.issue(id, p.key.Public().(pubKey))[0], []byte("root 3")}
		}, true},
		{"later end, nobody is asked", nil, func(a authority, p *person) [][]byte {
			id := p.id
			id.NotAfter = testEnd.Add(time.Hour)
			return [][]byte{a.issue(id, p.key.Public().(pubKey))[0], []byte("root 1")}
		}, true},
		{"earlier end, other leaf", preferNew, func(a authority, p *person) [][]byte {
			id := p.id
			id.NotAfter = testEnd.Add(-time.Hour)
			return [][]byte{a.issue(id, p.key.Public().(pubKey))[0], []byte("root 3")}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVillage(t)
			p := v.person(2, discovery.RoleServer)
			o := v.person(1, discovery.RoleGateway).options(v.w, v.root)
			o.Prefer = tt.prefer
			verified := 0
			o.Verify = func(c [][]byte) (discovery.Identity, pubKey, error) {
				verified++
				return v.root.verify(c)
			}
			g, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			held, offered := under(p, "root 2"), tt.offered(v.root, p)
			for range 3 {
				for _, chain := range [][][]byte{held, offered} {
					if err := g.Introduce(chain); err != nil {
						t.Fatal(err)
					}
				}
				held = offered // only the first time it is the one to be held
			}
			want := under(p, "root 2")
			if tt.want {
				want = offered
			}
			if d := cmp.Diff(want, g.book.chain(p.id.ID)); d != "" {
				t.Errorf("chain (-want +got):\n%s", d)
			}
			if tt.want && verified > 3 { // own, and each of both once
				t.Errorf("%d verifications, want 3", verified)
			}
		})
	}
}

// TestDeclinedChainIsVerifiedOnce until the judgement may have changed.
func TestDeclinedChainIsVerifiedOnce(t *testing.T) {
	v := newVillage(t)
	p := v.person(2, discovery.RoleServer)
	o := v.person(1, discovery.RoleGateway).options(v.w, v.root)
	asked, yes := 0, false
	o.Prefer = func(_, _ [][]byte) bool { asked++; return yes }
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, issuer := range []string{"root 1", "root 2"} {
			if err := g.Introduce(under(p, issuer)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	yes = true
	g.Recheck()
	if err := g.Introduce(under(p, "root 2")); err != nil {
		t.Fatal(err)
	}
	if got := g.book.chain(p.id.ID); string(got[1]) != "root 2" || asked != 2 {
		t.Errorf("issuer %q after %d questions", got[1], asked)
	}
}

// TestRecertifiedChainSpreads: the leaf stays, so only the digest of the whole
// chain tells.
func TestRecertifiedChainSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		var people []*person
		all := v.populate(2, 3, func(o *Options) { o.Prefer = preferNew })
		v.within(20*time.Second, "five nodes see each other", allSee(all))
		for _, g := range all {
			people = append(people, g.person)
		}
		for i, issuer := range []string{"root 1", "root 2"} {
			// The first has no issuer to compare with yet, so it is put there.
			for _, g := range all {
				g.book.mu.Lock()
				if e := g.book.entries[people[3].id.ID]; i == 0 {
					g.book.put(e.id, e.key, under(people[3], issuer))
				}
				g.book.mu.Unlock()
			}
			if err := all[3].SetChain(under(people[3], issuer)); err != nil {
				t.Fatal(err)
			}
			v.within(15*time.Second, "all hold the chain under "+issuer, func() bool {
				for _, g := range all {
					if c := g.book.chain(people[3].id.ID); len(c) != 2 || string(c[1]) != issuer {
						return false
					}
				}
				return true
			})
		}
		wants := 0
		for _, g := range all {
			wants += int(g.Counters()["wants-sent"])
		}
		time.Sleep(3 * time.Minute)
		for _, g := range all {
			wants -= int(g.Counters()["wants-sent"])
		}
		if wants < -5 { // a question may be under way
			t.Errorf("%d questions in three minutes after all hold it", -wants)
		}
	})
}

// TestChainsOfTheSameBytesDiffer: a chain that was cut elsewhere must not make
// the right one pass for one that was refused.
func TestChainsOfTheSameBytesDiffer(t *testing.T) {
	v := newVillage(t)
	g, err := New(v.person(1, discovery.RoleGateway).options(v.w, v.root))
	if err != nil {
		t.Fatal(err)
	}
	right := under(v.person(2, discovery.RoleServer), "issuer")
	cut := [][]byte{right[0][:10], append(slices.Clone(right[0][10:]), right[1]...)}
	if err := g.Introduce(cut); err == nil {
		t.Fatal("a cut chain is accepted")
	}
	if err := g.Introduce(right); err != nil {
		t.Error(err)
	}
}

// TestLongChainsTravel: a renewal's chain has six certificates of any size, and
// a record of any size beside it.
func TestLongChainsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		for n := range 12 {
			p := v.person(n+1, discovery.RoleServer)
			if n < 2 {
				p.id.Role = discovery.RoleGateway
				p.chain = v.root.issue(p.id, p.key.Public().(pubKey))
			}
			for i := len(p.chain); i < maxChain; i++ {
				p.chain = append(p.chain, bytes.Repeat([]byte{byte(n), byte(i)}, maxCert/2))
			}
			if len(v.list) > 0 {
				if err := v.list[0].Introduce(p.chain); err != nil {
					t.Fatal(err)
				}
			}
			var blobs [][]byte
			if n > 0 {
				blobs = v.list[0].Export()
			}
			v.start(p, blobs)
		}
		all := slices.Clone(v.list)
		v.within(30*time.Second, "twelve nodes see each other", allSee(all))
		for _, g := range all {
			for _, x := range all {
				if len(g.book.chain(x.id.ID)) != maxChain {
					t.Fatalf("%s holds %d certificates of %s", g.id.Name, len(g.book.chain(x.id.ID)), x.id.Name)
				}
			}
		}
	})
	v := newVillage(t)
	p := v.person(1, discovery.RoleGateway)
	o := p.options(v.w, v.root)
	for i := range maxChain {
		o.Chain = append(o.Chain, []byte{byte(i)})
	}
	if _, err := New(o); err == nil {
		t.Error("a chain of seven certificates is taken")
	}
}

// TestLargestAnswersFitAStream: what one question may be answered with.
func TestLargestAnswersFitAStream(t *testing.T) {
	it := item{record: make([]byte, maxSigned)}
	for range maxChain {
		it.chain = append(it.chain, make([]byte, maxCert))
	}
	if one := len(appendItem(nil, it)); frameHeader+maxWants*one > maxStream {
		t.Errorf("%d items of %d bytes do not fit %d", maxWants, one, maxStream)
	}
	if most := frameHeader + maxNotices*len(digest{}); most > maxStream {
		t.Errorf("a fetch of %d bytes does not fit", most)
	}
	if most := frameHeader + 1 + maxAnswer + 3*maxNotices; most > maxStream {
		t.Errorf("an answer of %d bytes does not fit", most)
	}
	g := &Gossip{}
	var items []item
	for range 500 {
		items = append(items, it)
	}
	total := 0
	for _, f := range g.frames(items) {
		if len(f) > maxStream {
			t.Errorf("an introduction of %d bytes", len(f))
		}
		list, err := decodeItems(f[frameHeader:])
		if err != nil {
			t.Fatal(err)
		}
		total += len(list)
	}
	if total != len(items) {
		t.Errorf("%d of %d items in the frames", total, len(items))
	}
}

func TestTrustIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		all := v.populate(2, 2)
		v.within(20*time.Second, "four nodes see each other", allSee(all))
		if m, _ := member(all[0], all[3].id.ID); m.Trust != 0 {
			t.Errorf("trust %d before it was announced", m.Trust)
		}
		a := announcement(all[3].id.Name, 1)
		a.Trust = 1 << 40
		if err := all[3].Announce(a); err != nil {
			t.Fatal(err)
		}
		v.within(5*time.Second, "all know the trust", func() bool {
			for _, g := range all {
				if m, _ := member(g, all[3].id.ID); m.Trust != a.Trust {
					return false
				}
			}
			return true
		})
	})
}

func TestExtensionBounds(t *testing.T) {
	p := newPerson(newAuthority("root"), 1, discovery.RoleGateway)
	plain, err := encodeRecord(record{ID: p.id.ID, Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	if last := plain[len(plain)-1]; last != 0 {
		t.Fatalf("a record without additions ends with %d: older versions wrote 0", last)
	}
	whole := append([]byte{tagWhole, 8}, "8 bytes."...)
	for _, tt := range []struct {
		name string
		ext  []byte
		ok   bool
		want uint64
	}{
		{"trust", []byte{tagTrust, 1, 7}, true, 7},
		{"trust and more", append([]byte{tagTrust, 2, 0x80, 1}, whole...), true, 128},
		{"unknown tags", append(whole, 9, 3, 'n', 'e', 'w', 200, 0), true, 0},
		{"trust twice", []byte{tagTrust, 1, 7, tagTrust, 1, 7}, false, 0},
		{"falling tags", append(whole, tagTrust, 1, 7), false, 0},
		{"trust in a long form", []byte{tagTrust, 2, 0x87, 0}, false, 0},
		{"trust with bytes behind", []byte{tagTrust, 2, 7, 7}, false, 0},
		{"short digest", []byte{tagWhole, 7, 1, 2, 3, 4, 5, 6, 7}, false, 0},
		{"cut", []byte{tagTrust, 2, 7}, false, 0},
		{"tag 0", []byte{0, 0}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(slices.Clone(plain[:len(plain)-1]), byte(len(tt.ext)))
			r, err := decodeRecord(append(b, tt.ext...))
			if (err == nil) != tt.ok || r.Trust != tt.want {
				t.Errorf("trust %d, error %v", r.Trust, err)
			}
		})
	}
}
