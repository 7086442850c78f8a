package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// The attacker has read a token of one use and races its owner, at the gateway
// that made it and at the other one; no second host may become a member.
func TestAttackTokenTwice(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 0, nil)
	a, b := w.gateways[0], w.gateways[1]
	token := a.token(t, enroll.TokenOptions{})
	// The owner and the thief at once where the token is known, and the thief
	// with other keys where it is not.
	elsewhere := *token
	elsewhere.Addrs = []string{b.endpoint().String()}
	racers := []struct {
		host
		token *pki.Token
		err   error
	}{
		{newHost(t, "gpu-1"), token, nil},
		{newHost(t, "gpu-2"), token, nil},
		{newHost(t, "gpu-3"), &elsewhere, nil},
	}
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range racers {
		r := &racers[i]
		wg.Go(func() {
			<-begin
			_, r.err = r.join(t, r.token)
		})
	}
	close(begin)
	wg.Wait()
	if (racers[0].err == nil) == (racers[1].err == nil) {
		t.Fatalf("want one of two to join: %v; %v", racers[0].err, racers[1].err)
	}
	winner, loser := racers[0], racers[1]
	if winner.err != nil {
		winner, loser = loser, winner
	}
	wantCode(t, loser.err, enroll.CodeUsedUp)
	wantCode(t, racers[2].err, enroll.CodeUnknownToken)
	refused := func(text string) func(history.Event) bool {
		return func(e history.Event) bool {
			return e.Kind == "enrolment-refused" && e.Reason != "" && strings.Contains(strings.Join([]string{e.Subject, e.Reason, e.Actor, e.Detail["code"]}, " "), text)
		}
	}
	a.told(t, "the refusal", refused("used"))
	b.told(t, "the refusal", refused("unknown"))
	a.until(t, "the winner is known", memberIs(winner.name, "known"))
	for _, g := range w.gateways {
		if st := g.status(t); !noMember(loser.name)(st) || !noMember("gpu-3")(st) {
			t.Errorf("%s lists one who was refused: %+v", g.name, st.Members)
		}
	}
	for _, r := range []host{loser.host, racers[2].host} {
		if d, err := statedir.Open(r.dir); err == nil && d.Joined() {
			t.Errorf("%s was refused and has a membership on its disk", r.name)
		}
	}
}

// The attacker answers at a gateway's address with a certificate that is good
// elsewhere, or as a server of the mesh; the joiner must not tell it a thing.
func TestAttackFakeGateway(t *testing.T) {
	t.Parallel()
	gw, member, _ := mesh(t)
	other := newHost(t, "gw-a")
	found(t, other)
	for _, tt := range []struct {
		name string
		cert tls.Certificate
	}{
		{"a gateway of another mesh", certificate(t, other.dir, other.dir)},
		{"of another mesh, showing our root", certificate(t, other.dir, gw.dir)},
		{"a server of this mesh", certificate(t, member.dir, gw.dir)},
		{"this gateway's certificates without its key", stolen(t, gw.dir)},
		{"an ordinary web server", selfSigned(t)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, heard := trap(t, tt.cert)
			token := gw.token(t, enroll.TokenOptions{Addrs: []string{addr}})
			joiner := newHost(t, "gpu-9")
			_, err := joiner.join(t, token)
			if err == nil {
				t.Fatal("the joiner believed it")
			}
			if !strings.HasPrefix(tt.name, "this gateway's") { // there TLS itself fails
				wantCode(t, err, enroll.CodeFakeGateway)
			}
			if b := heard(); len(b) != 0 {
				t.Errorf("the fake was told %d bytes", len(b))
			}
			if d, err := statedir.Open(joiner.dir); err == nil && d.Joined() {
				t.Error("the joiner is a member of something")
			}
		})
	}
}

// certificate is how the member of dir shows itself, under the root of another.
func certificate(t *testing.T, dir, rootOf string) tls.Certificate {
	t.Helper()
	d, r := open(t, dir), open(t, rootOf)
	key := must(d.IdentityKey())(t)
	return tls.Certificate{Certificate: append(must(d.Chain())(t), must(r.Roots())(t)[0]), PrivateKey: key}
}

// stolen shows public certificates, signing with a key that is not theirs.
func stolen(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	c := certificate(t, dir, dir)
	_, c.PrivateKey = must2(ed25519.GenerateKey(rand.Reader))(t)
	return c
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	pub, key := must2(ed25519.GenerateKey(rand.Reader))(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gw-a.test.mesh"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	return tls.Certificate{Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key))(t)}, PrivateKey: key}
}

// trap completes handshakes and keeps what it is told after them, for any
// protocol that the other end asks for.
func trap(t *testing.T, cert tls.Certificate) (addr string, heard func() []byte) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { ln.Close() })
	out := make(chan []byte, 1)
	go func() {
		var all []byte
		defer func() { out <- all }()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			tc := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: h.SupportedProtos, MinVersion: tls.VersionTLS13}, nil
			}})
			b, _ := io.ReadAll(tc)
			all = append(all, b...)
			conn.Close()
		}
	}()
	return ln.Addr().String(), func() []byte {
		ln.Close()
		return <-out
	}
}

// Nobody attacks: a host whose clock is decades off joins. It must be told that
// it is the clock, with both times, and nothing may be written.
func TestAttackJoinByWrongClock(t *testing.T) {
	t.Parallel()
	gw, _, _ := mesh(t)
	token := gw.token(t, enroll.TokenOptions{TTL: 24 * time.Hour})
	now := time.Now().UTC()
	for _, tt := range []struct {
		name  string
		ahead time.Duration // from the first of January 2000, where a bubble begins
	}{
		{"decades behind", 0},
		{"decades ahead", 40 * 365 * 24 * time.Hour},
		{"an hour behind", now.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) - time.Hour},
		{"an hour ahead", now.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) + time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			joiner := newHost(t, "gpu-8")
			var at time.Time
			var err error
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(tt.ahead)
				at = time.Now().UTC()
				_, err = enroll.Join(context.Background(), enroll.JoinOptions{StateDir: joiner.dir, Token: token, Name: joiner.name, ListenPort: joiner.port})
			})
			if err == nil {
				t.Fatal("joined")
			}
			wantCode(t, err, enroll.CodeClockSkew)
			text := err.Error()
			for _, want := range []string{"clock", at.Format("2006-01-02"), now.Format("2006")} {
				if !strings.Contains(text, want) {
					t.Errorf("the error does not say %q: %s", want, text)
				}
			}
			if d, err := statedir.Open(joiner.dir); err == nil && d.Joined() {
				t.Error("the joiner is a member")
			}
		})
	}
	// The same host, with its clock put right, is welcome: nothing was used up.
	newHost(t, "gpu-8").mustJoin(t, token)
}

// Nobody attacks: a gateway whose mesh was made by a clock in 2000 or 2040 starts. It
// must not crash, must name the trouble, and show no age that nobody can have.
func TestAttackStateOfWrongClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ahead time.Duration
		code  string // of the finding
	}{
		{"long over", 0, "certificate-expired"},
		{"not yet valid", 40 * 365 * 24 * time.Hour, "certificate-not-yet-valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gw := newHost(t, "gw-a")
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(tt.ahead)
				found(t, gw)
			})
			gw.start(t)
			gw.until(t, "tells of itself", func(st api.Status) bool {
				return st.Self.Name == gw.name && len(st.Members) == 1 && (tt.code == "" || has(tt.code, "")(st))
			})
			ages(t, reflect.ValueOf(gw.status(t)), "status")
			for _, path := range []string{"/v1/members", "/v1/trust", "/v1/plan", "/v1/events?since=0", "/v1/why?subject=gw-a"} {
				if _, err := api.NewClient(gw.socket()).Raw(t.Context(), path); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			// Who joins there is told of the clock, not of an attack.
			text, err := enroll.CreateToken(gw.dir, enroll.TokenOptions{Site: "idc"})
			if err != nil {
				return // nor can it make tokens, and says so
			}
			joiner := newHost(t, "gpu-1")
			_, err = joiner.join(t, must(pki.ParseToken(text))(t))
			if err == nil || !strings.Contains(err.Error(), "clock") {
				t.Errorf("a host that joins there is told %v, want the clock", err)
			}
		})
	}
}

// ages fails for every number of seconds in v that is negative or more than a day.
func ages(t *testing.T, v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			ages(t, v.Elem(), at)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				ages(t, v.Field(i), at+"."+v.Type().Field(i).Name)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			ages(t, v.Index(i), at)
		}
	default:
		if s, ok := v.Interface().(api.Seconds); ok && (s < 0 || s > 86400) {
			t.Errorf("%s is %v s", at, s)
		}
	}
}

func open(t *testing.T, path string) *statedir.Dir {
	t.Helper()
	return must(statedir.Open(path))(t)
}

// must ends the test on an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func must2[T, U any](v T, u U, err error) func(*testing.T) (T, U) {
	return func(t *testing.T) (T, U) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v, u
	}
}

// copyDir copies a state directory as a thief does, while its agent runs.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() || strings.HasSuffix(path, "lock") {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}
