package gossip

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"
)

var scale = flag.Int("scale", 0, "nodes of TestNoticeAtScale; 0: it is skipped")

// TestNoticeAtScale measures how long a published notice takes to all nodes of a
// large mesh. Run it with
//
//	go test ./discovery/gossip -run NoticeAtScale -v -timeout 1h -args -scale 1000
//
// The nodes know each other's certificates and have no records, so that the
// time goes to what is measured: 1000 of them take minutes of a processor.
func TestNoticeAtScale(t *testing.T) {
	if *scale < 3 {
		t.Skip("takes minutes; -args -scale 1000")
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t)
		town := newTown(v.root)
		known := sync.Map{}
		var people []*person
		var blobs [][]byte
		for n := range *scale {
			role := discovery.RoleServer
			if n < 4 {
				role = discovery.RoleGateway
			}
			p := v.person(n+1, role)
			people = append(people, p)
			known.Store(digestOf(p.chain[0]), p)
			blobs = append(blobs, appendItem(frame(meshTag(testName), kindItems), item{chain: p.chain}))
		}
		remember := func(o *Options) {
			town.keep(o)
			o.Verify = func(c [][]byte) (discovery.Identity, ed25519.PublicKey, error) {
				p, _ := known.Load(digestOf(c[0]))
				return p.(*person).id, p.(*person).key.Public().(ed25519.PublicKey), nil
			}
		}
		began := time.Now()
		for _, p := range people {
			v.run(p, blobs, remember)
			time.Sleep(20 * time.Millisecond)
		}
		all := slices.Clone(v.list)
		v.within(10*time.Minute, "all are alive for all", func() bool {
			return !slices.ContainsFunc(all, func(g *villager) bool { return g.book.living() < len(all) })
		})
		t.Logf("%d nodes see each other after %s", len(all), time.Since(began))
		time.Sleep(3 * time.Second)
		for _, loss := range []float64{0, 0.1, 0.25} {
			v.w.mu.Lock()
			v.w.loss = loss
			v.w.mu.Unlock()
			n := town.notice(fmt.Sprintf("at %.2f %s", loss, strings.Repeat("x", 900)))
			town.publish(all[0], n)
			t.Logf("loss %.0f %%: %s", loss*100, town.spreads(v, all, n))
			v.w.mu.Lock()
			v.w.loss = 0
			v.w.mu.Unlock()
			time.Sleep(3 * time.Second)
		}
		big := town.notice(strings.Repeat("roots", 4000))
		town.publish(all[0], big)
		t.Logf("%d bytes: %s", len(big), town.spreads(v, all, big))
	})
}

// spreads waits until all have a notice, and says how long it took.
func (t *town) spreads(v *village, all []*villager, notice []byte) string {
	start := time.Now()
	var took []time.Duration
	left := slices.Clone(all)
	for len(left) > 0 {
		if time.Since(start) > 10*time.Minute {
			v.t.Fatalf("%d nodes have no notice after ten minutes", len(left))
		}
		left = slices.DeleteFunc(left, func(g *villager) bool {
			if !t.of(g).has(notice) {
				return false
			}
			took = append(took, time.Since(start))
			return true
		})
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Sprintf("median %s, 99 %% %s, all %s", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
