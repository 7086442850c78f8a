package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serving is a server without a log, on loopback.
type serving struct {
	*lab
	srv  *Server
	addr string
	stop func()
}

func newServing(t testing.TB) *serving {
	t.Helper()
	return newServingAt(t, "127.0.0.1:0")
}

func newServingAt(t testing.TB, addr string, change ...func(*lab, *Options)) *serving {
	t.Helper()
	l := newLab(t)
	o := Options{Dir: l.dir}
	for _, c := range change {
		c(l, &o)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{lab: l, srv: NewServer(o), addr: ln.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.srv.Run(ctx, ln) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// from dials with a source address. All of 127.0.0.0/8 is this host.
func from(src netip.Addr) dialer {
	d := net.Dialer{Timeout: exchangeTime / 2, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// bot is the n-th of the attackers, each in its own network.
func bot(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(n % bots), 66}) }

const bots = 200

var (
	oneBot   = netip.MustParseAddr("127.0.66.66")
	honest   = netip.MustParseAddr("127.200.7.7")
	neighbor = netip.MustParseAddr("127.0.67.7") // near oneBot, not in its network
)

// joinFrom joins as an honest host at an address. A command that gave up is
// run again: here the flood has the same cores as the host, and they may be slow.
func (s *serving) joinFrom(t testing.TB, src netip.Addr, name string) error {
	t.Helper()
	tok := s.token(t, func(o *TokenOptions) { o.Addrs = []string{s.addr} })
	o := JoinOptions{StateDir: filepath.Join(t.TempDir(), name), Token: tok, Name: name, dial: from(src)}
	begin := time.Now()
	for n := 1; ; n++ {
		_, err := join(t, o)
		if err == nil || time.Since(begin) > 2*time.Minute {
			t.Logf("join from %s: %s, %d runs", src, time.Since(begin).Round(time.Millisecond), n)
			return err
		}
	}
}

// recordedHello is what a client of ours says first.
var recordedHello = sync.OnceValue(func() []byte {
	p, q := net.Pipe()
	defer q.Close()
	go func() {
		_ = tls.Client(p, strangerTLS).Handshake()
		p.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := q.Read(b)
	if err != nil {
		panic(err)
	}
	return b[:n]
})

var strangerTLS = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoALPN}, MinVersion: tls.VersionTLS13}

// attack does one connection's harm, and returns when the other end has had
// enough or the connection is closed.
type attack struct {
	name  string
	do    func(c net.Conn)
	waits bool // until the time is over
}

var attacks = []attack{
	{"silent", sink, true},
	{"gone at once", func(c net.Conn) { abort(c) }, true},
	{"another protocol", func(c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")
		sink(c)
	}, false},
	{"hello byte by byte", func(c net.Conn) { dribbled(c, recordedHello()) }, true},
	{"hello with a pause", func(c net.Conn) {
		c.Write(recordedHello()[:700])
		sink(c)
	}, true},
	{"oversized hello", func(c net.Conn) {
		c.Write(append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc}, make([]byte, 16<<10-4)...))
		sink(c)
	}, false},
	{"hello and silence", func(c net.Conn) {
		c.Write(recordedHello())
		sink(c)
	}, true},
	{"hello and gone", func(c net.Conn) {
		c.Write(recordedHello())
		c.Read(make([]byte, 1))
		abort(c)
	}, false},
	{"handshake and silence", func(c net.Conn) { afterTLS(c, func(tc *tls.Conn) { sink(tc) }) }, true},
	{"oversized frame", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) {
			tc.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
			sink(tc)
		})
	}, false},
	{"slow frame", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) { dribbled(tc, append([]byte{0, 1, 0, 0}, make([]byte, 64<<10)...)) })
	}, true},
	{"frame in tiny records", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) {
			tc.Write([]byte{0, 1, 0, 0})
			for range 64 << 10 {
				if _, err := tc.Write([]byte{0}); err != nil {
					return
				}
			}
		})
	}, false},
	{"junk question", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) {
			tc.Write(append([]byte{0, 0, 0, 4}, "junk"...))
			sink(tc)
		})
	}, false},
	{"unknown token", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) {
			tc.Write(strangersQuestion(tc, kindJoin, "0011223344556677"))
			sink(tc)
		})
	}, false},
	{"unknown node", func(c net.Conn) {
		afterTLS(c, func(tc *tls.Conn) {
			tc.Write(strangersQuestion(tc, kindRenew, ""))
			sink(tc)
		})
	}, false},
}

func sink(c net.Conn) { io.Copy(io.Discard, c) }

func dribbled(c net.Conn, b []byte) {
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	sink(c)
}

func afterTLS(c net.Conn, do func(*tls.Conn)) {
	tc := tls.Client(c, strangerTLS)
	if tc.Handshake() == nil {
		do(tc)
	}
}

// strangersKey is good; the gateway has never heard of it.
var strangersKey = sync.OnceValue(func() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return k
})

// strangersQuestion is a whole frame that a stranger can make without help.
func strangersQuestion(tc *tls.Conn, kind, token string) []byte {
	exported, err := export(tc.ConnectionState())
	if err != nil {
		panic(err)
	}
	k := strangersKey()
	q, err := json.Marshal(question{
		Version: protoVersion, Kind: kind, Time: time.Now().UTC(), Token: token, Name: "gpu-1",
		Identity: k.Public().(ed25519.PublicKey), WireGuard: elsewhere,
	})
	if err != nil {
		panic(err)
	}
	req, err := json.Marshal(request{Question: q, IdentityProof: ed25519.Sign(k, transcript(proofIdentity, exported, q))})
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)
}

// flood attacks from many sources at once until it is stopped.
type flood struct {
	conns atomic.Int64 // over
	stop  func()
}

func start(addr string, a attack, workers int, source func(n int) netip.Addr) *flood {
	var f flood
	var wg sync.WaitGroup
	var n atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := from(source(int(n.Add(1))))(ctx, addr)
				if err != nil {
					// Out of ports or of backlog: as it is for an attacker.
					if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
						time.Sleep(time.Millisecond)
					}
					f.conns.Add(1)
					continue
				}
				off := context.AfterFunc(ctx, func() { abort(c) })
				a.do(c)
				off()
				abort(c)
				f.conns.Add(1)
				time.Sleep(time.Duration(workers/20) * time.Millisecond) // 20,000 a second are enough
			}
		})
	}
	f.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	return &f
}

// settle waits until the server is without guests.
func (s *serving) settle(t testing.TB) {
	t.Helper()
	until := time.Now().Add(30 * time.Second)
	for {
		l := &s.srv.limit
		l.mu.Lock()
		conns, places := l.conns, len(l.porch)+len(l.line)+len(l.hall)
		l.mu.Unlock()
		if conns == 0 && places == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d connections and %d places stay", conns, places)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFloods has many sources do their worst while one honest host joins; then
// they are gone, and nothing of them is left.
func TestFloods(t *testing.T) {
	const size = 2000
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			s := newServing(t)
			before := runtime.NumGoroutine()
			f := start(s.addr, a, 400, bot)
			defer f.stop()
			watch := watching(s)
			waitFor(t, "the flood", func() bool { return s.srv.Counters()["accepted"] > 0 || f.conns.Load() > size/4 })
			if err := s.joinFrom(t, honest, "gpu-1"); err != nil {
				t.Errorf("in the flood: %v; %v", err, s.srv.Counters())
			}
			most := time.Now().Add(time.Second)
			waitFor(t, "the whole flood", func() bool {
				return f.conns.Load() >= size || time.Now().After(most) && f.conns.Load() >= size/10
			})
			f.stop()
			if err := s.joinFrom(t, bot(1), "gpu-2"); err != nil {
				t.Errorf("after the flood, from an attacker's address: %v; %v", err, s.srv.Counters())
			}
			s.settle(t)
			watch(t)
			s.checkCounters(t)
			waitFor(t, "the goroutines of the flood", func() bool { return runtime.NumGoroutine() <= before+2 })
			s.stop()
			if n := inTimeWait(t, s.addr); n > 5 {
				t.Errorf("%d connections in TIME_WAIT on this side", n)
			}
			t.Logf("%d connections: %v", f.conns.Load(), s.srv.Counters())
		})
	}
}

// TestFloodFromOneAddress has one attacker open what it can: it is held at the
// door, the others never notice, and it may join when it has stopped.
func TestFloodFromOneAddress(t *testing.T) {
	s := newServing(t)
	f := start(s.addr, attacks[6], 200, func(int) netip.Addr { return oneBot })
	defer f.stop()
	watch := watching(s)
	waitFor(t, "refusals", func() bool { return s.srv.Counters()["refused-source"] > 2000 })
	for i, src := range []netip.Addr{honest, neighbor} {
		if err := s.joinFrom(t, src, []string{"gpu-1", "gpu-2"}[i]); err != nil {
			t.Errorf("from %s: %v", src, err)
		}
	}
	c := s.srv.Counters()
	if c["evicted"]+c["refused-full"] > 0 {
		t.Errorf("one address filled the rooms: %v", c)
	}
	f.stop()
	s.settle(t)
	if err := s.joinFrom(t, oneBot, "gpu-3"); err != nil {
		t.Errorf("after the flood, from its address: %v", err)
	}
	s.settle(t)
	watch(t)
	s.checkCounters(t)
}

// TestFloodFromOneNetwork has a whole /24 attack: it may not take all places.
func TestFloodFromOneNetwork(t *testing.T) {
	s := newServing(t)
	f := start(s.addr, attacks[6], 200, func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 66, byte(n%250) + 1}) })
	defer f.stop()
	watch := watching(s)
	waitFor(t, "refusals", func() bool { return s.srv.Counters()["refused-network"] > 1000 })
	if err := s.joinFrom(t, honest, "gpu-1"); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	c := s.srv.Counters()
	if c["evicted"]+c["refused-full"] > 0 {
		t.Errorf("one network filled the rooms: %v", c)
	}
	f.stop()
	s.settle(t)
	watch(t)
	s.checkCounters(t)
}

// TestRunEndsInAFlood: nobody under way holds Run up.
func TestRunEndsInAFlood(t *testing.T) {
	s := newServing(t)
	before := runtime.NumGoroutine()
	f := start(s.addr, attacks[6], 300, bot)
	defer f.stop()
	waitFor(t, "the flood", func() bool { return s.srv.Counters()["accepted"] > 200 })
	s.stop()
	if l := &s.srv.limit; l.conns != 0 || len(l.porch)+len(l.line)+len(l.hall) != 0 {
		t.Errorf("%d connections stay", l.conns)
	}
	s.checkCounters(t)
	f.stop()
	waitFor(t, "the goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

// watching looks at the bounds all the time, until the returned func says so.
func watching(s *serving) func(t *testing.T) {
	quit, done := make(chan struct{}), make(chan struct{})
	conns, places := 0, 0
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
			}
			l := &s.srv.limit
			l.mu.Lock()
			conns, places = max(conns, l.conns), max(places, len(l.porch)+len(l.line)+len(l.hall))
			l.mu.Unlock()
		}
	}()
	return func(t *testing.T) {
		t.Helper()
		close(quit)
		<-done
		if conns > maxConns || places > porchSize+lineSize+hallSize {
			t.Errorf("%d connections, %d places", conns, places)
		}
		t.Logf("at most %d connections, %d places", conns, places)
	}
}

// checkCounters: every connection that came in ended in one way. All that were
// made are gone, though the last of them may still wait to be accepted.
func (s *serving) checkCounters(t testing.TB) {
	t.Helper()
	c := &s.srv.limit.counts
	ended := func() (ends uint64) {
		for _, k := range []count{
			countAnswered, countEvicted, countHungUp, countRefusedBusy, countNotTLS, countOtherProtocol, countOversized, countDribble,
			countSlowHello, countSlowHandshake, countSlowQuestion, countFailedHandshake, countFailedQuestion,
		} {
			ends += c[k].Load()
		}
		return ends
	}
	until := time.Now().Add(30 * time.Second)
	for ended() != c[countAccepted].Load() {
		if time.Now().After(until) {
			t.Errorf("%d came in, %d ended: %v", c[countAccepted].Load(), ended(), s.srv.Counters())
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if c[countNone].Load() != 0 {
		t.Error("some ended for no reason")
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	until := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(until) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// ticker is how a loop that must wake every 20 ms fares beside the server.
type ticker struct {
	quit, done chan struct{}
	late       []time.Duration
}

func startTicker() *ticker {
	k := &ticker{quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		last := time.Now()
		for {
			select {
			case <-k.quit:
				return
			case <-t.C:
			}
			now := time.Now()
			k.late = append(k.late, now.Sub(last)-20*time.Millisecond)
			last = now
		}
	}()
	return k
}

// stop returns the longest gap between two wakes beyond 20 ms, and the 99th percentile.
func (k *ticker) stop() (worst, p99 time.Duration) {
	close(k.quit)
	<-k.done
	if len(k.late) == 0 {
		return 0, 0
	}
	slices.Sort(k.late)
	return k.late[len(k.late)-1], k.late[len(k.late)*99/100]
}
