package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// streaming is a gateway that takes streams, and says back what they say.
type streaming struct {
	*serving
	roll *pki.Roll
	mu   sync.Mutex // guards seen
	seen []discovery.NodeID
}

func newStreaming(t *testing.T) *streaming {
	t.Helper()
	s := &streaming{}
	s.serving = newServingAt(t, "127.0.0.1:0", func(l *lab, o *Options) {
		tr, err := trustOf(l.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.roll = tr.roll
		o.Streams = &Streams{
			Verify: func(presented [][]byte) (discovery.Identity, error) {
				id, _, err := tr.roll.Verify(presented, time.Now())
				if bad := tr.outcast(id.ID); err == nil && bad != nil {
					return id, bad
				}
				return id, err
			},
			Serve: func(ctx context.Context, conn net.Conn, id discovery.Identity, _ netip.AddrPort) {
				s.mu.Lock()
				s.seen = append(s.seen, id.ID)
				s.mu.Unlock()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				_, _ = io.Copy(conn, conn)
			},
		}
	})
	return s
}

// call opens a stream with a certificate of its own, or none.
func (s *streaming) call(t *testing.T, cert *tls.Certificate) (*tls.Conn, error) {
	t.Helper()
	conf := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{StreamALPN}, InsecureSkipVerify: true}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	c, err := tls.Dial("tcp", s.addr, conf)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("?")); err != nil {
		return c, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return c, err
}

func certOf(t *testing.T, dir *statedir.Dir) *tls.Certificate {
	t.Helper()
	chain, err := dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.IdentityKey()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

func (s *streaming) member(t *testing.T, name string) (*tls.Certificate, discovery.NodeID) {
	t.Helper()
	tok := s.token(t, func(o *TokenOptions) { o.Addrs = []string{s.addr} })
	o := options(t, tok, name)
	res := mustJoin(t, o)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	return certOf(t, dir), res.ID
}

// TestStreamLeavesTheRooms: a member's stream has none of enrolment's bounds,
// takes none of its places, and a join passes beside it.
func TestStreamLeavesTheRooms(t *testing.T) {
	s := newStreaming(t)
	cert, id := s.member(t, "gpu-1")
	c, err := s.call(t, cert)
	if err != nil {
		t.Fatal(err)
	}
	if s.seen[0] != id {
		t.Errorf("the stream is said to be %s's, is %s's", s.seen[0], id)
	}
	buf := make([]byte, 1<<10)
	for range 2 * max(maxReads, maxBytes/len(buf), maxRecords) { // more of each than a guest may
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	s.srv.limit.mu.Lock()
	conns, places := s.srv.limit.conns, len(s.srv.limit.porch)+len(s.srv.limit.line)+len(s.srv.limit.hall)
	s.srv.limit.mu.Unlock()
	if conns != 0 || places != 0 {
		t.Errorf("the stream holds %d connections, %d places", conns, places)
	}
	s.member(t, "gpu-2")
	if n := s.srv.Counters()["streams"]; n != 1 {
		t.Errorf("counted %d streams", n)
	}
	s.stop() // and it ends with the server
	if _, err := c.Read(buf); err == nil {
		t.Error("the stream lives on without the server")
	}
}

// TestStreamRefuses: no certificate, another mesh's, a thief without the key, a
// revoked node, one that claims another protocol too.
func TestStreamRefuses(t *testing.T) {
	s := newStreaming(t)
	cert, id := s.member(t, "gpu-1")
	other, _ := newStreaming(t).member(t, "gpu-1")
	stolen := tls.Certificate{Certificate: cert.Certificate, PrivateKey: other.PrivateKey}
	for name, c := range map[string]*tls.Certificate{"none": nil, "another mesh": other, "stolen": &stolen} {
		if _, err := s.call(t, c); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	if _, err := s.call(t, cert); err != nil {
		t.Fatalf("the node itself: %v", err)
	}
	key, err := s.dir.IssuerKey()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := s.dir.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.NewSigner(issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	n, err := pki.SignNotice(signer, "lab", pki.Notice{Kind: pki.NoticeQuarantined, Node: id, Name: "gpu-1", Reason: "clone", At: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.roll.Add(n, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.call(t, cert); err == nil {
		t.Error("a node in quarantine: let in")
	}
	if len(s.seen) != 1 {
		t.Errorf("%d streams were handed over", len(s.seen))
	}
}

// TestNoStreamsUnlessWanted: a gateway without them turns away at the first bytes.
func TestNoStreamsUnlessWanted(t *testing.T) {
	s := newServing(t)
	c, err := tls.Dial("tcp", s.addr, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{StreamALPN}, InsecureSkipVerify: true})
	if err == nil {
		c.Close()
		t.Fatal("let in")
	}
	for end := time.Now().Add(3 * time.Second); s.srv.Counters()["refused-other-protocol"] != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("counted %v", s.srv.Counters())
		}
	}
}

// TestStreamFlood: strangers that offer to stream cost what other strangers
// cost: a host joins, and a member streams, beside two thousand of them.
func TestStreamFlood(t *testing.T) {
	s := newStreaming(t)
	cert, _ := s.member(t, "gpu-1")
	conf := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{StreamALPN}, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	ctx, cancel := context.WithCancel(t.Context())
	var strangers sync.WaitGroup
	for i := range 40 {
		strangers.Go(func() {
			for n := i; n < 2000+i && ctx.Err() == nil; n += 40 {
				raw, err := from(bot(n))(ctx, s.addr)
				if err != nil {
					continue
				}
				c := tls.Client(raw, conf)
				hs, stop := context.WithTimeout(ctx, time.Second)
				if c.HandshakeContext(hs) == nil {
					_, _ = c.Write(make([]byte, 1000))
					_ = c.SetReadDeadline(time.Now().Add(time.Second))
					if _, err := c.Read(make([]byte, 1)); err == nil {
						t.Error("a stranger got an answer")
					}
				}
				stop()
				raw.Close()
			}
		})
	}
	began := time.Now()
	err := s.joinFrom(t, honest, "gpu-2")
	if err != nil {
		t.Error(err)
	}
	for {
		_, err := s.call(t, cert)
		if err == nil {
			break
		}
		if time.Since(began) > 30*time.Second || errors.Is(err, context.Canceled) {
			t.Error(err)
			break
		}
	}
	t.Logf("joined and streamed after %s", time.Since(began).Round(time.Millisecond))
	cancel()
	strangers.Wait()
}
