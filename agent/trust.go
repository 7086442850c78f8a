package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/decide"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/agent/world"
	"drawbridge/discovery"
)

// trust is what this host holds of who may be a member: the roots, what was
// said by notices, and how its own certificates fare. It tells the world.
type trust struct {
	dir  *statedir.Dir
	log  *slog.Logger
	mesh string
	roll *pki.Roll
	// history is the audit journal; it never makes anybody wait.
	history *history.Log

	// early: what the disk remembers is taken whatever the clock says.
	early atomic.Bool
	// changed wakes the task that writes notices to the disk; of capacity one.
	changed chan struct{}

	world *world.World // set before the first notice

	mu    sync.Mutex // guards the fields below
	facts discovery.Trust
}

// errStale refuses a certificate of a node that is not known here.
var errStale = errors.New("the certificate ended too long ago; the node must renew it first")

// readTrust reads roots and notices of the state directory.
func readTrust(dir *statedir.Dir, mesh string, log *slog.Logger) (*trust, error) {
	certs, err := dir.Roots()
	if err != nil {
		return nil, err
	}
	roots, err := pki.NewRoots(certs...)
	if err != nil {
		return nil, err
	}
	t := &trust{dir: dir, log: log, mesh: mesh, roll: pki.NewRoll(mesh, roots), history: history.Open(dir.Path()), changed: make(chan struct{}, 1)}
	notices, err := dir.Notices()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		// The others tell them again within a push/pull.
		log.Error("notices unreadable: until others tell them, revoked nodes are not known here", "err", err)
	default:
		if err := t.roll.Restore(notices); err != nil {
			log.Warn("a notice on disk no longer holds", "err", err)
		}
	}
	return t, nil
}

// verify judges another node's certificates. Ended ones pass for a while, and
// while the own disk is read: peers warn, and only a revocation cuts.
func (t *trust) verify(chain [][]byte) (discovery.Identity, ed25519.PublicKey, error) {
	now := time.Now()
	who, pub, err := t.roll.Verify(chain, now)
	switch {
	case errors.Is(err, pki.ErrNotYetValid):
		// One of two clocks is wrong; which one is not known here.
	case errors.Is(err, pki.ErrExpired):
		if !t.early.Load() && now.Sub(who.NotAfter) > decide.Grace {
			return who, pub, fmt.Errorf("%w: %s", errStale, who.Name)
		}
	case err != nil:
		return who, pub, err
	}
	return who, pub, nil
}

// prefer reports whether an offered chain of the same node is better than the
// held one although it does not end later: its issuer rests on the current root.
func (t *trust) prefer(held, offered [][]byte) bool {
	return t.onCurrentRoot(offered) && !t.onCurrentRoot(held)
}

func (t *trust) onCurrentRoot(chain [][]byte) bool {
	current, err := pki.NewRoots(t.roll.Roots().Certs()[0])
	if err != nil {
		return false
	}
	_, _, err = pki.Verify(chain, current, t.mesh, time.Now())
	return err == nil || errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid)
}

// set changes facts and tells the world.
func (t *trust) set(change func(f *discovery.Trust)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.facts)
	if t.world != nil {
		t.world.Trust(t.facts) // under the lock: facts arrive in order
	}
}

// apart lists the nodes in quarantine, sorted.
func (t *trust) apart() []discovery.Apart {
	var out []discovery.Apart
	for _, n := range t.roll.List() {
		if q, ok := t.roll.Quarantined(n.Node); n.Kind == pki.NoticeQuarantined && ok && q.Epoch == n.Epoch {
			out = append(out, discovery.Apart{Node: n.Node, Name: n.Name, Reason: n.Reason, By: n.By, Since: n.At})
		}
	}
	slices.SortFunc(out, func(a, b discovery.Apart) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return slices.CompactFunc(out, func(a, b discovery.Apart) bool { return a.Node == b.Node })
}

// goneFor is how long a revoked node counts as a loss of its site.
const goneFor = 24 * time.Hour

// bury notes that a member was revoked.
func (t *trust) bury(m discovery.Member, now time.Time) {
	t.set(func(f *discovery.Trust) {
		gone := slices.DeleteFunc(slices.Clone(f.Gone), func(g discovery.Gone) bool { return g.Node == m.ID || now.Sub(g.At) > goneFor })
		gone = append(gone, discovery.Gone{Node: m.ID, Addr: m.Addr, Site: m.Site, Role: m.Role, At: now})
		slices.SortFunc(gone, func(a, b discovery.Gone) int { return strings.Compare(string(a.Node), string(b.Node)) })
		f.Gone = gone
	})
}

// epoch is the number of the set of roots that is trusted here.
func (t *trust) epoch() uint64 {
	n, _ := t.roll.RootsNotice()
	return n.Epoch
}

// String names the task.
func (t *trust) String() string { return "trust" }

// Run keeps notices on disk until ctx ends.
func (t *trust) Run(ctx context.Context) error {
	prune := time.NewTicker(time.Hour)
	defer prune.Stop()
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-prune.C:
			if t.roll.Prune(time.Now()) == 0 {
				continue
			}
		case <-t.changed:
		case <-again.C:
		}
		if err := t.keep(); err != nil {
			t.log.Error("notices not written: a restart must hear them again from others", "err", err)
			again.Reset(10 * time.Second)
		}
	}
}

// keep writes the notices to the disk.
func (t *trust) keep() error { return t.dir.SetNotices(t.roll.Notices()) }

// scribe writes the history until ctx ends. An event that is lost must not stop
// what it tells of.
func (t *trust) scribe(ctx context.Context) error {
	return t.history.Run(ctx, func(e history.Event, err error) {
		t.log.Error("event not kept in the history", "kind", e.Kind, "subject", e.Subject, "err", err)
	})
}

// subjectOf names a node in the history.
func subjectOf(id discovery.NodeID, name string) string {
	return strings.TrimSpace(string(id) + " " + name)
}

// view is what the desk shows. chains are those of all members.
func (t *trust) view(members []discovery.Member, chains map[discovery.NodeID][][]byte) api.Trust {
	out := api.Trust{Epoch: t.epoch(), Roots: []api.Root{}, Certificates: []api.Certificate{}, Notices: []api.Notice{}, CAs: [][]byte{}, Signed: append([][]byte{}, t.roll.Notices()...)}
	roots := t.roll.Roots().Certs()
	for i, der := range roots {
		r := api.Root{Pin: pinText(der), Current: i == 0}
		if _, to, err := pki.Lifetime(der); err == nil {
			r.NotAfter = to.UTC()
		}
		out.Roots = append(out.Roots, r)
	}
	seen := map[[32]byte]bool{}
	for _, m := range members {
		chain := chains[m.ID]
		c := api.Certificate{Node: string(m.ID), Name: m.Name, NotAfter: m.NotAfter.UTC(), Epoch: m.Trust}
		c.Issuer, c.Renewer = pki.Signers(chain)
		for _, der := range roots {
			if one, err := pki.NewRoots(der); err == nil {
				if _, _, err := pki.Verify(t.roll.Refresh(chain), one, t.mesh, time.Now()); err == nil || errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid) {
					c.RootPin = pinText(der)
					break
				}
			}
		}
		out.Certificates = append(out.Certificates, c)
		for _, ca := range pki.CAsOf(chain) {
			if sum := sha256.Sum256(ca); !seen[sum] && !t.roll.IssuerRevoked(ca) {
				seen[sum] = true
				out.CAs = append(out.CAs, ca)
			}
		}
	}
	slices.SortFunc(out.Certificates, func(a, b api.Certificate) int { return strings.Compare(a.Name+a.Node, b.Name+b.Node) })
	for _, n := range t.roll.List() {
		out.Notices = append(out.Notices, api.Notice{
			Kind: string(n.Kind), Node: string(n.Node), Name: n.Name, Reason: n.Reason, By: n.By, At: n.At.UTC(), Epoch: n.Epoch,
		})
	}
	return out
}

// pinText is the pin of a root as operators write it.
func pinText(root []byte) string {
	pin, err := pki.Pin(root)
	if err != nil {
		return ""
	}
	return "sha256:" + hex.EncodeToString(pin[:])
}
