package enroll

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// listenTLS is a hostile host: it completes the handshake with whatever
// certificate and reports every byte that it is then told.
func listenTLS(t *testing.T, cert tls.Certificate) (addr string, told func() []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte, 1)
	go func() {
		var all []byte
		defer func() { heard <- all }()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{protoALPN}, MinVersion: tls.VersionTLS13})
			b, _ := io.ReadAll(tc)
			all = append(all, b...)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), func() []byte {
		ln.Close()
		return <-heard
	}
}

func TestFakeGateways(t *testing.T) {
	l := newLab(t)
	other := newLab(t) // same names, another root
	member := options(t, l.token(t), "gpu-1")
	mustJoin(t, member)

	certOf := func(path string, chainOf string) tls.Certificate {
		t.Helper()
		d, err := statedir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		from, err := statedir.Open(chainOf)
		if err != nil {
			t.Fatal(err)
		}
		key, err := d.IdentityKey()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := d.Chain()
		if err != nil {
			t.Fatal(err)
		}
		roots, err := from.Roots()
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: append(chain, roots[0]), PrivateKey: key}
	}
	for _, tt := range []struct {
		name string
		cert tls.Certificate
	}{
		{"gateway of another mesh", certOf(other.state, other.state)},
		{"another mesh showing our root", certOf(other.state, l.state)},
		{"a server of our mesh", certOf(member.StateDir, l.state)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, told := listenTLS(t, tt.cert)
			tok := l.token(t, func(o *TokenOptions) { o.Addrs = []string{addr} })
			o := options(t, tok, "gpu-2")
			_, err := join(t, o)
			wantCode(t, err, CodeFakeGateway)
			wantNothing(t, o.StateDir)
			// The real one at the second address is asked all the same.
			tok = l.token(t, func(o *TokenOptions) { o.Addrs = []string{addr, l.addr} })
			mustJoin(t, options(t, tok, "gpu-"+tok.ID))
			if b := told(); len(b) != 0 {
				t.Errorf("the fake was told %d bytes", len(b))
			}
		})
	}
}

// wire is a request as a client would send it, and the means to send others.
type wire struct {
	lab *lab
	tok *pki.Token
	k   keys
	q   question

	proof []byte // for AWS
}

func newWire(t testing.TB, l *lab, change ...func(*TokenOptions)) wire {
	t.Helper()
	k, err := makeKeys(discovery.RoleServer)
	if err != nil {
		t.Fatal(err)
	}
	wg, err := k.wireGuard.Public()
	if err != nil {
		t.Fatal(err)
	}
	w := wire{lab: l, tok: l.token(t, change...), k: k}
	w.q = question{
		Version: protoVersion, Kind: kindJoin, Time: time.Now().UTC(), Token: w.tok.ID, Name: "gpu-1",
		Identity: k.identity.Public().(ed25519.PublicKey), WireGuard: wg[:],
	}
	return w
}

func (w wire) frame(t testing.TB, exported []byte) []byte {
	t.Helper()
	body, err := json.Marshal(w.q)
	if err != nil {
		t.Fatal(err)
	}
	req := request{
		Question: body, TokenProof: w.tok.Sign(transcript(proofToken, exported, body)), AWSProof: w.proof,
		IdentityProof: ed25519.Sign(w.k.identity, transcript(proofIdentity, exported, body)),
	}
	if w.k.issuer != nil && w.q.Issuer != nil {
		req.IssuerProof = ed25519.Sign(w.k.issuer, transcript(proofIssuer, exported, body))
	}
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var nowhere = netip.MustParseAddrPort("198.51.100.7:4711")

var here, elsewhere = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)

func TestRequestDamagedAnywhere(t *testing.T) {
	l := newLab(t)
	w := newWire(t, l)
	good := w.frame(t, here)
	var want request
	if err := json.Unmarshal(good, &want); err != nil {
		t.Fatal(err)
	}
	try := func(frame []byte) {
		t.Helper()
		ans, _ := l.srv.answer(t.Context(), frame, here, nowhere)
		if ans.Code != CodeOK {
			return
		}
		// Base64 has bits that mean nothing; then it is the same request.
		var got request
		if err := json.Unmarshal(frame, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("accepted: %s", frame)
		}
	}
	for n := range good {
		try(good[:n])
		for _, bit := range []byte{1, 4, 32, 128} {
			bad := bytes.Clone(good)
			bad[n] ^= bit
			try(bad)
		}
	}
	if ans, _ := l.srv.answer(t.Context(), good, here, nowhere); ans.Code != CodeOK {
		t.Errorf("the good one: %s %s", ans.Code, ans.Text)
	}
}

func TestRequestRefused(t *testing.T) {
	l := newLab(t)
	stranger := newWire(t, l)
	for _, tt := range []struct {
		name   string
		change func(*wire)
		want   Code
	}{
		{"an older version", func(w *wire) { w.q.Version = 1 }, CodeVersion},
		{"a newer version", func(w *wire) { w.q.Version = 3 }, CodeVersion},
		{"unknown kind", func(w *wire) { w.q.Kind = "steal" }, CodeMalformed},
		{"proof by another token", func(w *wire) { w.tok = stranger.tok }, CodeUnknownToken},
		{"another node's identity", func(w *wire) { w.q.Identity = stranger.q.Identity }, CodeMalformed},
		{"short identity", func(w *wire) { w.q.Identity = w.q.Identity[:31] }, CodeMalformed},
		{"no wireguard key", func(w *wire) { w.q.WireGuard = make([]byte, 32) }, CodeMalformed},
		{"bad name", func(w *wire) { w.q.Name = "../etc" }, CodeMalformed},
		{"token is a path", func(w *wire) { w.q.Token = "../node" }, CodeUnknownToken},
		{"unproven issuing key", func(w *wire) { w.q.Issuer = stranger.q.Identity }, CodeMalformed},
		{"many endpoints", func(w *wire) { w.q.Endpoints = make([]netip.AddrPort, maxEndpoints+1) }, CodeMalformed},
		{"name of another length", func(w *wire) { w.q.Name = strings.Repeat("a", 64) }, CodeMalformed},
		{"renewal with a token", func(w *wire) { w.q.Kind = kindRenew }, CodeMalformed},
		{"renewal by a stranger", func(w *wire) { w.q.Kind, w.q.Token = kindRenew, "" }, CodeUnknownNode},
		{"leave by a stranger", func(w *wire) { w.q.Kind, w.q.Token = kindLeave, "" }, CodeUnknownNode},
		{"certify without a key", func(w *wire) { w.q.Kind, w.q.Token = kindCertify, "" }, CodeMalformed},
		{"a join with certificates", func(w *wire) { w.q.Chain = [][]byte{{1}} }, CodeMalformed},
		{"many certificates", func(w *wire) { w.q.Kind, w.q.Token, w.q.Chain = kindRenew, "", make([][]byte, maxChain+1) }, CodeMalformed},
		{"a big certificate", func(w *wire) { w.q.Kind, w.q.Token, w.q.Chain = kindRenew, "", [][]byte{make([]byte, maxCert+1)} }, CodeMalformed},
		{"AWS without a proof", func(w *wire) { w.q.Kind, w.q.Token = kindJoinAWS, "" }, CodeMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, l)
			tt.change(&w)
			if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != tt.want {
				t.Errorf("got %s (%s), want %s", ans.Code, ans.Text, tt.want)
			}
		})
	}
	t.Run("recorded on another connection", func(t *testing.T) {
		w := newWire(t, l)
		if ans, _ := l.srv.answer(t.Context(), w.frame(t, elsewhere), here, nowhere); ans.Code == CodeOK {
			t.Error("accepted")
		}
	})
	t.Run("unknown field", func(t *testing.T) {
		w := newWire(t, l)
		f := bytes.Replace(w.frame(t, here), []byte(`{`), []byte(`{"colour":"red",`), 1)
		if ans, _ := l.srv.answer(t.Context(), f, here, nowhere); ans.Code != CodeMalformed {
			t.Errorf("got %s", ans.Code)
		}
	})
	t.Run("same key, other wireguard key", func(t *testing.T) {
		w := newWire(t, l)
		if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeOK {
			t.Fatalf("got %s", ans.Code)
		}
		w.q.WireGuard = stranger.q.WireGuard
		if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeUsedUp {
			t.Errorf("got %s", ans.Code)
		}
	})
}

func TestRepeatIsTheSameCertificate(t *testing.T) {
	l := newLab(t)
	w := newWire(t, l)
	first, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere)
	again, _ := l.srv.answer(t.Context(), w.frame(t, elsewhere), elsewhere, nowhere)
	if first.Code != CodeOK || again.Code != CodeOK || !reflect.DeepEqual(first.Chain, again.Chain) {
		t.Errorf("got %s and %s", first.Code, again.Code)
	}
	w.q.Name = "gpu-2"
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeUsedUp {
		t.Errorf("another name under the same key: %s", ans.Code)
	}
}

func TestServerSurvivesRubbish(t *testing.T) {
	l := newLab(t)
	for name, say := range map[string]func(net.Conn){
		"nothing":   func(net.Conn) {},
		"not TLS":   func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") },
		"big frame": func(c net.Conn) { sayTLS(c, binary.BigEndian.AppendUint32(nil, maxFrame+1)) },
		"no frame":  func(c net.Conn) { sayTLS(c, make([]byte, 4)) },
		"half":      func(c net.Conn) { sayTLS(c, []byte{0, 0, 1, 0, '{'}) },
		"rubbish":   func(c net.Conn) { sayTLS(c, append([]byte{0, 0, 0, 3}, "abc"...)) },
	} {
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		say(conn)
		conn.Close()
	}
	mustJoin(t, options(t, l.token(t), "gpu-1"))
}

func sayTLS(c net.Conn, b []byte) {
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoALPN}})
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if tc.Handshake() == nil {
		tc.Write(b)
	}
}

func TestRunEndsOpenConnections(t *testing.T) {
	l := newLab(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(Options{Dir: l.dir}).Run(ctx, ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run waits for a silent client")
	}
}

func TestRunWithoutMembership(t *testing.T) {
	dir, err := statedir.Create(filepath.Join(t.TempDir(), "empty"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := NewServer(Options{Dir: dir}).Run(t.Context(), ln); err == nil {
		t.Error("served without a certificate")
	}
}

func TestLedgerGivesNothingTwice(t *testing.T) {
	now := time.Unix(1e9, 0)
	unused := func(netip.Addr) bool { return false }
	a := statedir.Allocations{Block: netip.MustParsePrefix("10.0.0.0/28")}
	give := func(id discovery.NodeID, now time.Time) (netip.Addr, bool) {
		e, _ := take(&a, id, unused, now)
		if e == nil {
			return netip.Addr{}, false
		}
		e.NotAfter = now.Add(pki.NodeLife)
		return e.Addr, true
	}
	seen := map[netip.Addr]bool{}
	for i := range 13 {
		addr, ok := give(discovery.NodeID(rune('a'+i)), now)
		if !ok || seen[addr] {
			t.Fatalf("%d: %s %v", i, addr, ok)
		}
		seen[addr] = true
	}
	if _, ok := give("z", now); ok {
		t.Fatal("a full block gave")
	}
	first, _ := give("a", now)
	if again, _ := give("a", now); again != first {
		t.Error("the same node got another address")
	}
	a.Addrs[0].Freed = now
	for d, want := range map[time.Duration]bool{
		addrRest:                              false,
		pki.NodeLife + addrRest - time.Second: false,
		pki.NodeLife + addrRest:               true,
	} {
		b := a
		b.Addrs = append([]statedir.Allocation{}, a.Addrs...)
		e, _ := take(&b, "z", unused, now.Add(d))
		if (e != nil) != want || want && (e.Addr != first || e.Node != "z") {
			t.Errorf("after %s: %v, want %v", d, e, want)
		}
	}
}
