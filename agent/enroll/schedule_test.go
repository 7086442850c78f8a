package enroll

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// The promise of single use under hostile schedules: many joiners, several
// gateways, several processes on one state directory, lost and repeated
// answers, replays, approvals, and the end of a process at every write. Always:
//
//	the identities that were ever answered a certificate for a token are at
//	most as many as its uses, and who asks again is answered the same.
//
// Answers count when a server made them, whether or not anybody heard them.

// crash is a process that ends.
type crash struct{ at string }

// gate is a gateway of the schedule: a state directory with one or more
// processes on it.
type gate struct {
	state string
	procs []*Server
}

// host is somebody with an identity key who has got hold of a token.
type host struct {
	wire
	home *gate // where the token is from
}

type schedule struct {
	t      *testing.T
	rnd    *rand.Rand
	gates  []*gate
	roll   *pki.Roll
	hosts  []*host
	heard  [][2][]byte // frames that somebody overheard, with their connections
	clock  time.Duration
	tokens []statedir.Token

	mu      sync.Mutex                             // guards the fields below
	granted map[string]map[discovery.NodeID][]byte // by token: leaf of whom
	ends    int                                    // of processes
}

func (s *schedule) now() time.Time { return time.Now().Add(s.clock) }

// process starts a process on a gateway's directory. Its writes fail, or end
// it, when armed.
func (s *schedule) process(g *gate) *Server {
	dir, err := statedir.Open(g.state)
	if err != nil {
		s.t.Fatal(err)
	}
	srv := NewServer(Options{Dir: dir, Roll: s.roll, Alive: func(discovery.NodeID) bool { return false }, History: func(history.Event) {}})
	srv.now = s.now
	return srv
}

// arm lets the nth write from now end the process, before or after it is on
// disk, or fail.
func (s *schedule) arm(srv *Server, n int, fail bool) {
	srv.opts.Dir.Interrupt(func(name string, done bool) error {
		if n--; n >= 0 {
			return nil
		}
		if fail {
			return errors.New("the disk is full")
		}
		panic(crash{fmt.Sprintf("%s, done %v", name, done)})
	})
}

// ask sends a question; ok is false when the process ended over it.
func (s *schedule) ask(srv *Server, h *host, exported []byte) (ans answer, ok bool) {
	frame := h.frame(s.t, exported)
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(crash); !ours {
				panic(r)
			}
			ok = false
			s.mu.Lock()
			s.ends++
			s.mu.Unlock()
		}
	}()
	ans, _ = srv.answer(s.t.Context(), frame, exported, nowhere)
	if ans.Code == CodeOK {
		s.grant(h, ans)
	}
	return ans, true
}

// grant books an answer and holds the promise.
func (s *schedule) grant(h *host, ans answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.granted[h.q.Token]
	if of == nil {
		of = map[discovery.NodeID][]byte{}
		s.granted[h.q.Token] = of
	}
	id := h.k.id()
	if leaf := of[id]; leaf != nil && !bytes.Equal(leaf, ans.Chain[0]) {
		s.t.Errorf("%s was answered two certificates", h.q.Name)
	}
	of[id] = ans.Chain[0]
	i := slices.IndexFunc(s.tokens, func(t statedir.Token) bool { return t.ID == h.q.Token })
	if uses := s.tokens[i].Uses; len(of) > uses {
		s.t.Errorf("%d identities have certificates by a token for %d", len(of), uses)
	}
	got, _, err := s.roll.Verify(ans.Chain, s.now())
	if err != nil || got.ID != id {
		s.t.Errorf("a certificate that is none: %+v, %v", got, err)
	}
}

func (s *schedule) exported() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(s.rnd.Uint32())
	}
	return b
}

func (s *schedule) anyGate() *gate { return s.gates[s.rnd.IntN(len(s.gates))] }
func (s *schedule) anyHost() *host { return s.hosts[s.rnd.IntN(len(s.hosts))] }

// step is one move of the schedule.
func (s *schedule) step() {
	h := s.anyHost()
	g := h.home
	if s.rnd.IntN(4) == 0 {
		g = s.anyGate() // where nobody knows the token
	}
	i := s.rnd.IntN(len(g.procs))
	switch n := s.rnd.IntN(100); {
	case n < 20: // a question, anywhere; the answer may be lost
		s.askOne(g, i, h, s.exported())
	case n < 35: // several at once, in all processes of a gateway
		s.storm(g)
	case n < 65: // the process ends at some write over the next question
		s.arm(g.procs[i], s.rnd.IntN(6), s.rnd.IntN(4) == 0)
		s.askOne(g, i, h, s.exported())
		g.procs[i] = s.process(g)
	case n < 75 && len(s.heard) > 0: // a replay, on its own connection or another
		f := s.heard[s.rnd.IntN(len(s.heard))]
		exported := f[1]
		if s.rnd.IntN(2) == 0 {
			exported = s.exported()
		}
		s.replay(g.procs[i], f[0], exported)
	case n < 82: // a person decides
		s.person(g)
	case n < 88: // somebody bends his question
		s.bend(g.procs[i], h)
	case n < 92: // time passes
		s.clock += time.Duration(s.rnd.IntN(20)) * time.Minute
	case n < 94: // old tokens and requests are swept
		dir := g.procs[i].opts.Dir
		if err := dir.Update(func() error { return prune(dir, s.now()) }); err != nil {
			s.t.Error(err)
		}
	default: // a restart
		g.procs[i] = s.process(g)
	}
}

func (s *schedule) askOne(g *gate, i int, h *host, exported []byte) {
	h.q.Time = s.now().UTC()
	s.heard = append(s.heard, [2][]byte{h.frame(s.t, exported), exported})
	s.ask(g.procs[i], h, exported)
}

func (s *schedule) storm(g *gate) {
	var wg sync.WaitGroup
	for range 6 {
		srv, exported := g.procs[s.rnd.IntN(len(g.procs))], s.exported()
		h := *s.anyHost()
		h.q.Time = s.now().UTC()
		wg.Go(func() { s.ask(srv, &h, exported) })
	}
	wg.Wait()
}

// replay has the frame of somebody else; who is meant by it is answered at most.
func (s *schedule) replay(srv *Server, frame, exported []byte) {
	ans, c := srv.answer(s.t.Context(), frame, exported, nowhere)
	if ans.Code != CodeOK {
		return
	}
	for _, h := range s.hosts {
		if h.k.id() == c.id && h.q.Token == c.Token {
			s.grant(h, ans)
			return
		}
	}
	s.t.Error("a replay was answered for nobody")
}

func (s *schedule) person(g *gate) {
	list, err := ListPending(g.state)
	if err != nil || len(list) == 0 {
		return
	}
	p := list[s.rnd.IntN(len(list))]
	decide := Approve
	if s.rnd.IntN(4) == 0 {
		decide = Refuse
	}
	_, _ = decide(g.state, p.Fingerprint, "user alice") // it may have been decided
}

// bend asks under the right identity for something else.
func (s *schedule) bend(srv *Server, h *host) {
	bent := *h
	bent.q.Time = s.now().UTC()
	switch s.rnd.IntN(4) {
	case 0:
		bent.q.Name += "-x"
	case 1:
		bent.q.WireGuard = s.exported()
	case 2:
		bent.q.Role = discovery.RoleGateway
	case 3:
		bent.k.issuer = ed25519.NewKeyFromSeed(s.exported())
		bent.q.Issuer = bent.k.issuer.Public().(ed25519.PublicKey)
	}
	exported := s.exported()
	ans, _ := srv.answer(s.t.Context(), bent.frame(s.t, exported), exported, nowhere)
	if ans.Code != CodeOK {
		return
	}
	// It asked so first: then this is what it is.
	h.q.Name, h.q.WireGuard = bent.q.Name, bent.q.WireGuard
	s.grant(h, ans)
}

// settle lets all processes restart and everybody ask once more.
func (s *schedule) settle() {
	for _, g := range s.gates {
		g.procs = []*Server{s.process(g)}
		dir := g.procs[0].opts.Dir
		tokens, err := dir.Tokens()
		if err != nil {
			s.t.Fatal(err)
		}
		ledger, err := dir.Allocations()
		if err != nil {
			s.t.Fatal(err)
		}
		seen := map[discovery.NodeID]bool{}
		for _, e := range ledger.Addrs {
			if seen[e.Node] {
				s.t.Errorf("%s has two addresses", e.Name)
			}
			seen[e.Node] = true
		}
		for _, tok := range tokens {
			if slices.ContainsFunc(s.tokens, func(ours statedir.Token) bool { return ours.ID == tok.ID }) {
				s.settleToken(g, tok)
			}
		}
	}
}

// settleToken: whom the disk says the token was spent on is answered, with the
// first answer if there was one.
func (s *schedule) settleToken(g *gate, tok statedir.Token) {
	held, err := g.procs[0].opts.Dir.Reserved(tok.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range tok.Redeemed {
		if !slices.Contains(held, r.Node) {
			held = append(held, r.Node)
		}
	}
	if len(held) > tok.Uses {
		s.t.Errorf("%d hosts joined or wait with a token for %d", len(held), tok.Uses)
	}
	for id := range s.granted[tok.ID] {
		if !slices.ContainsFunc(tok.Redeemed, func(r statedir.Redemption) bool { return r.Node == id }) {
			s.t.Errorf("%s was answered, and its use is not on disk", id)
		}
	}
	for _, r := range tok.Redeemed {
		i := slices.IndexFunc(s.hosts, func(h *host) bool { return h.k.id() == r.Node && h.q.Token == tok.ID })
		h := *s.hosts[i]
		h.q.Time, h.q.Name = s.now().UTC(), r.Name
		ans, _ := s.ask(g.procs[0], &h, s.exported())
		if ans.Code != CodeOK || !bytes.Equal(ans.Chain[0], r.Leaf) {
			s.t.Errorf("%s asks again: %s %s", r.Name, ans.Code, ans.Text)
		}
	}
}

// newSchedule has two gateways with two processes each, five tokens, and more
// hosts than uses.
func newSchedule(t *testing.T, meshes []string, roll *pki.Roll, seed uint64) *schedule {
	t.Helper()
	s := &schedule{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), roll: roll, granted: map[string]map[discovery.NodeID][]byte{}}
	for _, state := range meshes {
		s.gates = append(s.gates, &gate{state: state})
	}
	for _, g := range s.gates {
		g.procs = []*Server{s.process(g), s.process(g)}
	}
	for i := range 5 {
		g := s.anyGate()
		text, err := CreateToken(g.state, TokenOptions{
			Site: "idc", Addrs: []string{"a:1"}, Uses: 1 + s.rnd.IntN(3), TTL: time.Hour, Approval: i%3 == 2, Ephemeral: i == 0, Replace: i == 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := pki.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := g.procs[0].opts.Dir.Token(tok.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.tokens = append(s.tokens, entry)
		for j := range 4 {
			k, err := makeKeys(discovery.RoleServer)
			if err != nil {
				t.Fatal(err)
			}
			h := &host{wire: wire{tok: tok, k: k}, home: g}
			h.q = question{Version: protoVersion, Kind: kindJoin, Token: tok.ID, Name: fmt.Sprintf("h%d-%d-%d", seed, i, j)}
			if h.q.Identity, h.q.WireGuard, _, err = k.public(); err != nil {
				t.Fatal(err)
			}
			s.hosts = append(s.hosts, h)
		}
	}
	return s
}

func TestSingleUseUnderHostileSchedules(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	schedules, steps := 16, 60
	if testing.Short() {
		schedules = 5
	}
	ends, granted := 0, 0
	for seed := range schedules {
		s := newSchedule(t, []string{l.state, b.state}, l.roll, uint64(seed))
		for range steps {
			s.step()
		}
		s.settle()
		if t.Failed() {
			t.Fatalf("the schedule of seed %d", seed)
		}
		ends += s.ends
		for _, of := range s.granted {
			granted += len(of)
		}
	}
	if ends < schedules || granted < schedules {
		t.Errorf("%d processes ended, %d hosts joined: the schedules test nothing", ends, granted)
	}
	t.Logf("%d schedules: %d processes ended over a write, %d hosts joined", schedules, ends, granted)
}

// TestEndAtEveryWrite ends the gateway's process at each write that one join
// takes, before and after the write is on disk, and lets the disk refuse it.
func TestEndAtEveryWrite(t *testing.T) {
	for _, approve := range []bool{false, true} {
		for _, fail := range []bool{false, true} {
			t.Run(fmt.Sprintf("approval %v, failing %v", approve, fail), func(t *testing.T) {
				l := newLab(t)
				for n := 0; ; n++ {
					if n > 40 {
						t.Fatal("a join takes more than 40 writes")
					}
					s := newSchedule(t, []string{l.state}, l.roll, uint64(1000+n))
					tok := l.token(t, func(o *TokenOptions) { o.Approval = approve })
					entry, err := l.dir.Token(tok.ID)
					if err != nil {
						t.Fatal(err)
					}
					s.tokens = append(s.tokens, entry)
					a, b := *s.hosts[0], *s.hosts[1]
					for _, h := range []*host{&a, &b} {
						h.tok, h.q.Token, h.q.Time = tok, tok.ID, s.now().UTC()
					}
					s.hosts = []*host{&a, &b}
					g := s.gates[0]
					if approve {
						if ans, _ := s.ask(g.procs[0], &a, here); ans.Code != CodePending {
							t.Fatalf("got %s", ans.Code)
						}
						if _, err := Approve(g.state, Fingerprint(a.k.id()), "user alice"); err != nil {
							t.Fatal(err)
						}
					}
					s.arm(g.procs[0], n, fail)
					ans, whole := s.ask(g.procs[0], &a, here)
					g.procs[0] = s.process(g)
					// Another tries its luck, before the first comes back and after.
					first := s.rnd.IntN(2) == 0
					if first {
						s.ask(g.procs[0], &b, elsewhere)
					}
					again, _ := s.ask(g.procs[0], &a, elsewhere)
					if ans.Code == CodeOK && again.Code != CodeOK {
						t.Errorf("write %d: was answered, and then %s %s", n, again.Code, again.Text)
					}
					s.ask(g.procs[0], &b, elsewhere)
					s.settle()
					if t.Failed() {
						t.Fatalf("write %d, the other first: %v", n, first)
					}
					if whole && ans.Code == CodeOK && s.ends == 0 && n > 0 && !fail || fail && ans.Code == CodeOK && n > 0 {
						if n < 4 {
							t.Errorf("a join takes %d writes", n)
						}
						return // beyond the last write
					}
				}
			})
		}
	}
}

// TestGatewayRoleIsSingleUseToo: the block and the certificates are the same
// after the end of a process at any write.
func TestGatewayRoleIsSingleUseToo(t *testing.T) {
	for n := 0; ; n++ {
		l := newLab(t)
		tok := l.token(t, gateways)
		var hosts []*host
		for i := range 2 {
			k, err := makeKeys(discovery.RoleGateway)
			if err != nil {
				t.Fatal(err)
			}
			h := &host{wire: wire{tok: tok, k: k}}
			h.q = question{Version: protoVersion, Kind: kindJoin, Token: tok.ID, Name: fmt.Sprintf("gw-%d", i), Time: time.Now().UTC()}
			if h.q.Identity, h.q.WireGuard, h.q.Issuer, err = k.public(); err != nil {
				t.Fatal(err)
			}
			hosts = append(hosts, h)
		}
		s := &schedule{t: t, roll: l.roll}
		srv := s.process(&gate{state: l.state})
		s.arm(srv, n, false)
		ended := func() (ended bool) {
			defer func() {
				if r := recover(); r != nil {
					ended = true
				}
			}()
			srv.answer(t.Context(), hosts[0].frame(t, here), here, nowhere)
			return false
		}()
		srv = s.process(&gate{state: l.state})
		a, _ := srv.answer(t.Context(), hosts[0].frame(t, elsewhere), elsewhere, nowhere)
		b, _ := srv.answer(t.Context(), hosts[1].frame(t, here), here, nowhere)
		c, _ := srv.answer(t.Context(), hosts[0].frame(t, here), here, nowhere)
		if a.Code != CodeOK || b.Code != CodeUsedUp || !bytes.Equal(a.Issuer, c.Issuer) || !bytes.Equal(a.Renewer, c.Renewer) || a.Site != "aws" {
			t.Errorf("write %d: %s, %s, %s", n, a.Code, b.Code, c.Code)
		}
		ledger, err := l.dir.Allocations()
		if err != nil || len(ledger.Blocks) != 2 {
			t.Errorf("write %d: %d blocks, %v", n, len(ledger.Blocks), err)
		}
		if !ended {
			if n < 3 {
				t.Errorf("it takes %d writes", n)
			}
			return
		}
	}
}

// TestJoinerEndsAtEveryWrite ends the joining process at each of its writes: it
// is "not joined" until it has all, and the same identity goes on.
func TestJoinerEndsAtEveryWrite(t *testing.T) {
	for _, role := range []discovery.Role{discovery.RoleServer, discovery.RoleGateway} {
		t.Run(string(role), func(t *testing.T) {
			l := newLab(t)
			for n := 0; ; n++ {
				tok := l.token(t, func(o *TokenOptions) { o.Role = role })
				o := options(t, tok, fmt.Sprintf("new-%d", n))
				o.StateDir = filepath.Join(t.TempDir(), "s")
				left := n
				o.open = func(path string) (*statedir.Dir, error) {
					d, err := statedir.Create(path)
					if err == nil {
						d.Interrupt(func(name string, done bool) error {
							if left--; left < 0 {
								panic(crash{name})
							}
							return nil
						})
					}
					return d, err
				}
				_, err, ended := joinAndEnd(t, o)
				dir, openErr := statedir.Create(o.StateDir)
				if openErr != nil {
					t.Fatal(openErr)
				}
				joined := dir.Joined()
				if !ended {
					if err != nil || !joined {
						t.Fatalf("after %d writes: %v", n, err)
					}
					if n < 10 {
						t.Errorf("a join takes %d writes", n)
					}
					return
				}
				o.open = nil
				res, err := join(t, o)
				if joined && !errors.Is(err, ErrAlreadyJoined) || !joined && err != nil {
					t.Fatalf("write %d, joined %v: %v", n, joined, err)
				}
				verify(t, dir)
				entry, err := l.dir.Token(tok.ID)
				if err != nil || len(entry.Redeemed) != 1 || entry.Redeemed[0].Node != res.ID {
					t.Fatalf("write %d: %+v, %v", n, entry.Redeemed, err)
				}
				if role == discovery.RoleGateway {
					if n > 12 { // the mesh has sixteen blocks
						return
					}
				}
			}
		})
	}
}

func joinAndEnd(t *testing.T, o JoinOptions) (res Result, err error, ended bool) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(crash); !ours {
				panic(r)
			}
			ended = true
		}
	}()
	res, err = join(t, o)
	return res, err, false
}
