package agent_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
)

// sink keeps all that is written to it.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) text() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// needles are the forms in which a secret could stand in a text: its bytes, in
// hex, in base64 of both alphabets at each of the three places where it can
// begin (so also within PKCS #8 and PEM), and as Go prints bytes.
func needles(secret []byte) [][]byte {
	out := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret)))}
	for lead := range 3 {
		padded := append(make([]byte, lead), secret...)
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(padded)
			out = append(out, []byte(s[4:4+(len(s)-8)])) // without what its neighbours decide
		}
	}
	printed := strings.Trim(fmt.Sprintf("%d", secret[len(secret)-16:]), "[]")
	return append(out, []byte(printed), []byte(strings.ReplaceAll(printed, " ", ",")), []byte(strings.ReplaceAll(printed, " ", ", ")),
		fmt.Appendf(nil, "% x", secret[len(secret)-16:]))
}

// tokenSecret reads the secret out of a token's text.
func tokenSecret(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "dbt1_"))
	if err != nil {
		t.Fatalf("the token's text is not what this test reads: %v", err)
	}
	return raw[10:42] // behind length and id
}

// wireGuardSecret reads the key out of its file, of one line of base64.
func wireGuardSecret(t *testing.T, file []byte) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	raw, err := base64.StdEncoding.DecodeString(lines[len(lines)-1])
	if err != nil || len(raw) != 32 {
		t.Fatalf("the key's file is not what this test reads: %v", err)
	}
	return raw
}

// Nobody attacks yet: whoever reads logs, answers, errors, the history or
// notices must learn no secret from them, and nobody else may open the files.
func TestAttackReadersFindNoSecrets(t *testing.T) {
	t.Parallel()
	logs := &sink{}
	said := &sink{} // errors and answers
	secrets := map[string][]byte{}
	keep := func(name string, b []byte) { secrets[name] = bytes.Clone(b) }
	tell := func(err error) {
		if err == nil {
			return
		}
		fmt.Fprintf(said, "%v\n%+v\n%#v\n", err, err, err)
		var e *enroll.Error
		if errors.As(err, &e) {
			fmt.Fprintf(said, "%+v\n%#v\n", *e, *e)
		}
	}
	w := &town{
		log:    slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})),
		change: func(s *config.Settings) { s.Enrolment.NodeLife = time.Minute },
	}
	w.build(t, 2, 2)
	a, b := w.gateways[0], w.gateways[1]
	keysOf := func(name, dir string) {
		d := open(t, dir)
		for kind, read := range map[string]func() (ed25519.PrivateKey, error){"identity": d.IdentityKey, "issuer": d.IssuerKey, "root": d.RootKey} {
			k, err := read()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			keep(name+" "+kind, k.Seed())
			keep(name+" "+kind+" PKCS8", must(x509.MarshalPKCS8PrivateKey(k))(t))
		}
		keep(name+" wireguard", wireGuardSecret(t, must(os.ReadFile(filepath.Join(dir, "wireguard.key")))(t)))
	}
	// Tokens, used, refused and revoked.
	tokenOf := func(o enroll.TokenOptions) *pki.Token {
		o.Site = "idc"
		text := must(enroll.CreateToken(a.dir, o))(t)
		token := must(pki.ParseToken(text))(t)
		fmt.Fprintf(said, "%v %+v %#v %s %q\n", token, token, token, token, fmt.Sprint(*token))
		w.log.Info("a token", "token", token, "value", *token)
		keep("token "+token.ID, []byte(text))
		keep("token secret "+token.ID, tokenSecret(t, text))
		return token
	}
	good := tokenOf(enroll.TokenOptions{})
	three := w.citizen(t, "gpu-3")
	three.mustJoin(t, good)
	three.start(t)
	_, err := newHost(t, "gpu-4").join(t, good)
	wantCode(t, err, enroll.CodeUsedUp)
	tell(err)
	limited := tokenOf(enroll.TokenOptions{Names: []string{"cpu-*"}})
	_, err = newHost(t, "gpu-4").join(t, limited)
	wantCode(t, err, enroll.CodeOtherName)
	tell(err)
	if err := enroll.RevokeToken(a.dir, limited.ID); err != nil {
		t.Fatal(err)
	}
	_, err = newHost(t, "cpu-1").join(t, limited)
	tell(err)
	cut := limited.Encode()
	for _, text := range []string{cut[:len(cut)-9], cut + "x", strings.ToUpper(cut), strings.Replace(cut, "dbt1_", "dbt9_", 1)} {
		_, err := pki.ParseToken(text)
		tell(err)
	}
	addr, _ := trap(t, selfSigned(t))
	lured := tokenOf(enroll.TokenOptions{Addrs: []string{addr}})
	_, err = newHost(t, "gpu-4").join(t, lured)
	tell(err)
	for _, c := range append(w.all(), three) {
		keysOf(c.name, c.dir)
	}

	a.until(t, "gpu-3 alive", memberIs("gpu-3", "alive"))
	ends := func() (end time.Time) {
		tr, err := api.NewClient(b.socket()).Trust(t.Context())
		for _, c := range tr.Certificates {
			if err == nil && c.Name == "gpu-1" {
				end = c.NotAfter
			}
		}
		return end
	}
	first := ends()
	eventually(t, 2*time.Minute, "gpu-1 was renewed", func() bool { return !first.IsZero() && ends().After(first) })
	a.command(t, "quarantine", api.Command{Node: "gpu-2"})
	a.command(t, "release", api.Command{Node: "gpu-2"})
	a.command(t, "revoke", api.Command{Node: "gpu-3"})
	b.until(t, "gpu-3 is out", noMember("gpu-3"))
	_, err = enroll.Renew(t.Context(), enroll.RenewOptions{Dir: open(t, three.dir), Addrs: []string{a.endpoint().String()}})
	wantCode(t, err, enroll.CodeRevokedNode)
	tell(err)
	_, err = a.tryCommand(t, "revoke", api.Command{Node: "nobody"})
	tell(err)
	_, err = a.tryCommand(t, "notice", api.Command{Notice: []byte("junk")})
	tell(err)
	// A directory with another's key in it, and damaged ones.
	broken := filepath.Join(t.TempDir(), "broken")
	for _, swap := range []func(){
		func() { _ = open(t, broken).SetIdentityKey(must(open(t, b.dir).IdentityKey())(t)) },
		func() { _ = open(t, broken).SetWireGuardKey(must(open(t, b.dir).WireGuardKey())(t)) },
		func() { damage(t, broken) },
	} {
		copyDir(t, w.servers[0].dir, broken)
		swap()
		_, err := agent.New(agent.Options{Settings: config.Default(), StateDir: broken, Logger: w.log})
		if err == nil {
			t.Error("an agent starts from a broken directory")
		}
		tell(err)
		_ = os.RemoveAll(broken)
	}

	for _, c := range w.all() {
		client := api.NewClient(c.socket())
		for _, path := range []string{
			"/v1/status", "/v1/members", "/v1/trust", "/v1/plan", "/v1/events?since=0", "/livez", "/readyz",
			"/v1/why?subject=gpu-1", "/v1/why?subject=idc", "/v1/why?subject=" + url.QueryEscape("no such"), "/v1/nothing",
		} {
			answer, err := client.Raw(t.Context(), path)
			_, _ = said.Write(answer)
			tell(err)
		}
	}
	for _, c := range append(w.all(), three) {
		c.stop()
	}

	places := map[string][]byte{"the logs": logs.text(), "errors and answers": said.text()}
	if len(places["the logs"]) < 10000 || !bytes.Contains(places["the logs"], []byte(`"level":"DEBUG"`)) {
		t.Errorf("%d bytes of logs: not at debug", len(places["the logs"]))
	}
	for _, c := range append(w.all(), three) {
		err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if info.Mode().Type()&fs.ModeSocket == 0 && info.Mode().Perm() != want {
				t.Errorf("%s: mode %v, want %v", path, info.Mode().Perm(), want)
			}
			rel, _ := filepath.Rel(c.dir, path)
			if !d.IsDir() && info.Mode().IsRegular() && !strings.HasSuffix(rel, ".key") {
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				places[c.name+"/"+rel] = text
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var history bool
	for name := range places {
		history = history || strings.Contains(name, "history")
	}
	if !history {
		t.Errorf("no history among the files: %d of them", len(places))
	}
	if len(secrets) < 20 {
		t.Errorf("%d secrets to look for: too few", len(secrets))
	}
	for what, secret := range secrets {
		for _, n := range needles(secret) {
			for where, text := range places {
				if i := bytes.Index(text, n); i >= 0 {
					t.Errorf("%s has the secret %q in it, at %d: ...%q", where, what, i, text[max(0, i-80):i])
				}
			}
		}
	}
	// The search finds what is there: the same in the files that may have it.
	d := open(t, a.dir)
	k := must(d.IdentityKey())(t)
	found := false
	for _, n := range needles(k.Seed()) {
		files, _ := filepath.Glob(filepath.Join(a.dir, "*"))
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, n) {
				found = true
			}
		}
	}
	if !found {
		t.Error("the search does not find the identity key in its own file")
	}
}

// damage cuts every key in two.
func damage(t *testing.T, dir string) {
	t.Helper()
	files := must(filepath.Glob(filepath.Join(dir, "*key*")))(t)
	if len(files) == 0 {
		t.Fatal("no keys")
	}
	for _, f := range files {
		b := must(os.ReadFile(f))(t)
		if err := os.WriteFile(f, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
