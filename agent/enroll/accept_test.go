package enroll

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/agent/statedir"
)

// hosted serves one end of a pipe as Run would, and returns the other end and
// how it ended, and after how long.
func hosted(t *testing.T, dir *statedir.Dir) (c net.Conn, end func() (count, time.Duration)) {
	t.Helper()
	srv := NewServer(Options{Dir: dir})
	p, q := net.Pipe()
	begin := time.Now()
	g := srv.door(p, begin)
	if g == nil {
		t.Fatal("refused at the door")
	}
	done := make(chan time.Time)
	go func() {
		srv.serve(context.Background(), g, srv.tlsConfig())
		done <- time.Now()
	}()
	return q, func() (count, time.Duration) {
		took := (<-done).Sub(begin)
		if srv.limit.conns != 0 || len(srv.limit.guests()) != 0 || srv.limit.turns.held != nil {
			t.Error("it left something behind")
		}
		if srv.limit.counts[countAccepted].Load() != 1 {
			t.Error("not counted")
		}
		for k := countHungUp; k < counts; k++ {
			if srv.limit.counts[k].Load() != 0 {
				return k, took
			}
		}
		return countAnswered, took
	}
}

// TestPhases has a stranger stop at each step: every phase has its own end.
func TestPhases(t *testing.T) {
	l := newLab(t)
	hello := recordedHello()
	for _, tt := range []struct {
		name string
		do   func(c net.Conn)
		want count
		took time.Duration
	}{
		{"nothing", sink, countSlowHello, helloTime},
		{"half a hello", func(c net.Conn) { c.Write(hello[:500]); sink(c) }, countSlowHello, helloTime},
		{"a hello in slow pieces", func(c net.Conn) {
			for len(hello) > 0 {
				time.Sleep(900 * time.Millisecond)
				if _, err := c.Write(hello[:300]); err != nil {
					return
				}
			}
		}, countSlowHello, helloTime},
		{"a hello in tiny pieces", func(c net.Conn) {
			for i := range hello {
				time.Sleep(10 * time.Millisecond)
				if _, err := c.Write(hello[i : i+1]); err != nil {
					return
				}
			}
		}, countDribble, 20 * time.Millisecond},
		{"a hello in many pieces", func(c net.Conn) {
			for i := 0; i < len(hello); i += minHelloRead {
				time.Sleep(10 * time.Millisecond)
				if _, err := c.Write(hello[i : i+minHelloRead]); err != nil {
					return
				}
			}
		}, countDribble, maxHelloReads * 10 * time.Millisecond},
		{"not TLS", func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n"); sink(c) }, countNotTLS, 0},
		{"gone", func(c net.Conn) { c.Close() }, countHungUp, 0},
		{"only a hello", func(c net.Conn) { c.Write(hello); sink(c) }, countSlowHandshake, handshakeTime},
		{"a bad finish", func(c net.Conn) {
			go func() {
				c.Write(hello)
				c.Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
			}()
			sink(c)
		}, countFailedHandshake, 0},
		{"no question", func(c net.Conn) { afterTLS(c, func(tc *tls.Conn) { sink(tc) }) }, countSlowQuestion, questionTime},
		{"half a question", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				time.Sleep(time.Second)
				tc.Write([]byte{0, 0, 9, 9, '{'})
				sink(tc)
			})
		}, countSlowQuestion, questionTime},
		{"a question in slow pieces", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				for _, err := tc.Write([]byte{0, 0, 9, 9}); err == nil; _, err = tc.Write([]byte{'{'}) {
					time.Sleep(900 * time.Millisecond)
				}
			})
		}, countSlowQuestion, questionTime},
		{"a question in many records", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				for _, err := tc.Write([]byte{0, 0, 9, 9}); err == nil; _, err = tc.Write([]byte{'{'}) {
				}
			})
		}, countOversized, 0},
		{"a frame over the bound", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) { tc.Write([]byte{1, 0, 0, 0}); sink(tc) })
		}, countFailedQuestion, 0},
		{"the answer is not taken", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				tc.Write(strangersQuestion(tc, kindJoin, "0011223344556677"))
				time.Sleep(time.Minute)
			})
		}, countSlowQuestion, answerTime},
		{"an answer", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				tc.Write(strangersQuestion(tc, kindJoin, "0011223344556677"))
				sink(tc)
				tc.Close()
			})
		}, countAnswered, 0},
		{"nobody closes", func(c net.Conn) {
			afterTLS(c, func(tc *tls.Conn) {
				tc.Write(strangersQuestion(tc, kindJoin, "0011223344556677"))
				sink(tc)
				time.Sleep(time.Minute)
			})
		}, countAnswered, farewellTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, end := hosted(t, l.dir)
				quit := make(chan struct{})
				go func() {
					defer close(quit)
					tt.do(c)
					c.Close()
				}()
				got, took := end()
				if got != tt.want || took != tt.took {
					t.Errorf("%v after %s, want %v after %s", got, took, tt.want, tt.took)
				}
				c.Close()
				<-quit
			})
		})
	}
}

// TestOwnWorkDoesNotCount: what the server takes for an answer is not taken
// from the other end's time.
func TestOwnWorkDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, q := net.Pipe()
		var ts turnstile
		g := newGuest(p, &ts, time.Now())
		g.begin(phaseQuestion, questionTime)
		go q.Write([]byte("question"))
		b := make([]byte, 8)
		if _, err := g.Read(b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // an answer that waits for somebody
		if !g.busy.Load() {
			t.Error("it may be evicted meanwhile")
		}
		go func() {
			time.Sleep(answerTime - time.Millisecond)
			q.Read(b)
		}()
		if _, err := g.Write([]byte("answer")); err != nil {
			t.Errorf("the answer: %v", err)
		}
		if _, err := g.Read(b); err == nil || g.why != countSlowQuestion {
			t.Errorf("and then for ever: %v, %v", err, g.why)
		}
		if ts.held != nil || len(ts.waiting) != 0 {
			t.Error("a turn is left")
		}
		q.Close()
	})
}

// TestWholeTimeIsBounded: progress in each phase buys no more than exchangeTime.
func TestWholeTimeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, q := net.Pipe()
		var ts turnstile
		begin := time.Now()
		g := newGuest(p, &ts, begin)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				time.Sleep(helloTime / 2)
				if _, err := q.Write([]byte{1}); err != nil {
					return
				}
			}
		}()
		var b [1]byte
		for {
			g.begin(phaseQuestion, questionTime)
			if _, err := g.Read(b[:]); err != nil {
				break
			}
		}
		if took := time.Since(begin); took != exchangeTime {
			t.Errorf("ended after %s", took)
		}
		g.cut()
		<-done
	})
}

// TestRefusalLeavesNothing: the refused one gets a reset, so that no TIME_WAIT
// is left on the gateway.
func TestRefusalLeavesNothing(t *testing.T) {
	s := newServing(t)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	s.settle(t)
	if n := s.srv.Counters()["refused-not-tls"]; n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestCountersHaveNames(t *testing.T) {
	c := NewServer(Options{}).Counters()
	if len(c) != int(counts)-1 {
		t.Errorf("%d names for %d counts: %v", len(c), counts-1, c)
	}
	if _, ok := c[""]; ok {
		t.Error("a count without a name")
	}
}

func TestCheckHello(t *testing.T) {
	hello := recordedHello()
	for n := range hello {
		if whole, why := checkHello(hello[:n], false); whole || why != countNone {
			t.Fatalf("%d of %d bytes: %v %v", n, len(hello), whole, why)
		}
	}
	if whole, why := checkHello(append(bytes.Clone(hello), 20, 3, 3, 0, 1, 1), false); !whole || why != countNone {
		t.Errorf("a good one: %v %v", whole, why)
	}
	change := func(at int, b byte) []byte {
		c := bytes.Clone(hello)
		c[at] = b
		return c
	}
	for name, tt := range map[string]struct {
		b    []byte
		want count
	}{
		"HTTP":            {[]byte("G"), countNotTLS},
		"SSL 2":           {[]byte{0x80, 0x2e, 1}, countNotTLS},
		"an alert":        {change(0, 21), countNotTLS},
		"version":         {change(1, 2), countNotTLS},
		"a ServerHello":   {change(5, 2), countNotTLS},
		"too long":        {[]byte{22, 3, 1, 0x10, 0}, countOversized},
		"empty":           {[]byte{22, 3, 1, 0, 0}, countNotTLS},
		"in two records":  {change(8, hello[8]+1), countNotTLS},
		"and another one": {change(8, hello[8]-1), countNotTLS},
		"not our ALPN":    {bytes.ReplaceAll(hello, []byte(protoALPN), []byte("http/1.1 and more..")), countOtherProtocol},
	} {
		if whole, why := checkHello(tt.b, false); whole || why != tt.want {
			t.Errorf("%s: %v %v", name, whole, why)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(recordedHello(), 5)
	f.Add([]byte("GET / HTTP/1.1\r\n"), 1)
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, 7)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole, why := checkHello(b, true)
		if whole && (why != countNone || len(b) < 9 || !bytes.Contains(b, []byte(protoALPN)) && !bytes.Contains(b, []byte(StreamALPN))) {
			t.Fatalf("passed, %v", why)
		}
		// More bytes change no decision, but perhaps its reason.
		if cut < 0 || cut > len(b) {
			return
		}
		early, soon := checkHello(b[:cut], true)
		if soon != countNone && why == countNone || early && !whole {
			t.Fatalf("%v %v after %d bytes, %v %v after all", early, soon, cut, whole, why)
		}
	})
}

func FuzzMeter(f *testing.F) {
	f.Add(recordedHello(), 3)
	f.Add(bytes.Repeat([]byte{23, 3, 3, 0, 1, 7}, 200), 4)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var one, many meter
		want := one.pass(b)
		got := true
		if step <= 0 {
			step = 1
		}
		for rest := b; len(rest) > 0; {
			n := min(step, len(rest))
			got = many.pass(rest[:n])
			rest = rest[n:]
		}
		if want != got || one.records != many.records && want {
			t.Fatalf("%v with %d records at once, %v with %d in steps of %d", want, one.records, got, many.records, step)
		}
		if want && (len(b) > maxBytes || one.records > maxRecords) {
			t.Fatal("over the bound")
		}
	})
}

// TestMeterHasRoom: what an honest host may send at most passes.
func TestMeterHasRoom(t *testing.T) {
	p, q := net.Pipe()
	defer p.Close()
	go func() {
		tc := tls.Client(p, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoALPN}})
		tc.Write(make([]byte, maxFrame+4))
		tc.Write(make([]byte, maxFrame+4))
		p.Close()
	}()
	l := newLab(t)
	m := &metered{Conn: q}
	tc := tls.Server(m, NewServer(Options{Dir: l.dir}).tlsConfig())
	if n, _ := io.Copy(io.Discard, tc); n != 2*(maxFrame+4) || !m.ok {
		t.Errorf("%d bytes came, %+v", n, m.meter)
	}
	t.Logf("%d bytes in %d records and %d reads", m.meter.bytes, m.meter.records, m.reads)
}

type metered struct {
	net.Conn
	meter meter
	reads int
	ok    bool
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.reads++
	if n > 0 {
		m.ok = m.meter.pass(b[:n])
	}
	return n, err
}

// TestStrangersAddress: an address that is none is a source like another.
func TestStrangersAddress(t *testing.T) {
	p, q := net.Pipe()
	defer q.Close()
	g := newGuest(p, nil, time.Now())
	if g.source != netip.IPv4Unspecified() || g.network != netip.IPv4Unspecified() {
		t.Errorf("got %s, %s", g.source, g.network)
	}
	g.cut()
	g.cut() // once is enough
}
