package pki

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
)

func testToken(t testing.TB) *Token {
	t.Helper()
	tok, err := NewToken(Token{
		Mesh: "lab", Addrs: []string{"203.0.113.9:51820", "gw.example.com:51820", "[2001:db8::1]:51820"},
		Pin: [32]byte{1, 2, 3}, Site: "idc-seoul", Role: discovery.RoleServer, Expires: testNow.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestTokenComesBack(t *testing.T) {
	tok := testToken(t)
	text := tok.Encode()
	if !strings.HasPrefix(text, "dbt1_") || len(text) > 300 {
		t.Errorf("%d characters", len(text))
	}
	got, err := ParseToken("  " + text + "\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tok, got, cmpopts.IgnoreUnexported(Token{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !ed25519.Verify(tok.Public(), []byte("m"), got.Sign([]byte("m"))) {
		t.Error("the secret did not come back")
	}
	if a, b := testToken(t), testToken(t); a.ID == b.ID || a.Public().Equal(b.Public()) {
		t.Error("two tokens are the same")
	}
}

func TestTokenNeverPrintsSecret(t *testing.T) {
	tok := testToken(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", tok, "value", *tok)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", tok, "value", *tok)
	js, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		inner Token
		ptr   *Token
		Outer Token
	}
	h := holder{*tok, tok, *tok}
	texts := []string{log.String(), string(js), fmt.Sprint(tok, *tok, h, &h)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b"} {
		texts = append(texts, fmt.Sprintf(verb, tok), fmt.Sprintf(verb, *tok), fmt.Sprintf(verb, h), fmt.Sprintf(verb, &h))
	}
	key := tok.secret.key[:]
	decimals := strings.Trim(fmt.Sprint([]int{int(key[0]), int(key[1]), int(key[2]), int(key[3]), int(key[4]), int(key[5])}), "[]")
	for _, s := range texts {
		low := strings.ToLower(s)
		if strings.Contains(low, hex.EncodeToString(key[:6])) || strings.Contains(s, base64.StdEncoding.EncodeToString(key)[:8]) ||
			strings.Contains(s, decimals) || strings.Contains(s, strings.ReplaceAll(decimals, " ", ",")) || strings.Contains(s, "dbt1_") {
			t.Errorf("secret in %s", s)
		}
	}
	if !strings.Contains(tok.String(), tok.ID) {
		t.Error("String does not name the token")
	}
}

func TestParseTokenDamagedAnywhere(t *testing.T) {
	tok := testToken(t)
	text := tok.Encode()
	known := func(err error) bool {
		for _, e := range []error{ErrTokenMalformed, ErrTokenTruncated, ErrTokenChecksum, ErrTokenVersion} {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	check := func(s string, want error) {
		t.Helper()
		_, err := ParseToken(s)
		if !known(err) || want != nil && !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		// No piece of the text may come back in an error.
		for i := len(tokenPrefix); i+8 < len(s); i += 4 {
			if strings.Contains(err.Error(), s[i:i+8]) {
				t.Fatalf("the error quotes the token: %v", err)
			}
		}
	}
	for n := 1; n < len(text); n++ {
		check(text[:n], ErrTokenTruncated)
	}
	for n := range text {
		for _, c := range []byte("Ab_ \x00\xff") {
			if text[n] == c {
				continue
			}
			check(text[:n]+string([]byte{c})+text[n+1:], nil)
		}
		check(text[:n]+text[n+1:], nil)
		check(text[:n]+"z"+text[n:], nil)
	}
	check(text+text, nil)
}

func TestParseTokenErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"empty", " \n", ErrTokenMalformed},
		{"something else", "AKIAIOSFODNN7EXAMPLE", ErrTokenMalformed},
		{"next version", "dbt2_" + strings.Repeat("A", 200), ErrTokenVersion},
		{"far version", "dbt12_x", ErrTokenVersion},
		{"prefix only", "dbt1_", ErrTokenTruncated},
		{"half a prefix", "dbt", ErrTokenTruncated},
		{"huge", "dbt1_" + strings.Repeat("A", 1<<20), ErrTokenMalformed},
		{"shell quoting left", `"dbt1_AAAA"`, ErrTokenMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseToken(tt.text); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNewTokenRefuses(t *testing.T) {
	for name, change := range map[string]func(*Token){
		"no address":  func(t *Token) { t.Addrs = nil },
		"bad address": func(t *Token) { t.Addrs = []string{"gw"} },
		"port 0":      func(t *Token) { t.Addrs = []string{"gw:0"} },
		"bad host":    func(t *Token) { t.Addrs = []string{"a b:1"} },
		"too many":    func(t *Token) { t.Addrs = strings.Split(strings.Repeat("a:1,", 8)+"a:1", ",") },
		"role":        func(t *Token) { t.Role = "king" },
		"site":        func(t *Token) { t.Site = "A" },
		"mesh":        func(t *Token) { t.Mesh = "" },
		"expiry":      func(t *Token) { t.Expires = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			tok := *testToken(t)
			change(&tok)
			if _, err := NewToken(tok); err == nil {
				t.Error("made")
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(testToken(f).Encode())
	f.Add("dbt1_AA")
	f.Add("dbt2_AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		if err == nil && tok.Encode() != strings.TrimSpace(text) {
			t.Fatal("two spellings of one token")
		}
	})
}

// FuzzTokenBody puts a right checksum behind anything.
func FuzzTokenBody(f *testing.F) {
	b, err := decodeToken(testToken(f).Encode()[len(tokenPrefix):])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 2000 {
			return
		}
		n := len(body) + 2 + checksumLen
		b := append([]byte{byte(n >> 8), byte(n)}, body...)
		sum := tokenSum(b)
		text := tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:checksumLen]...))
		if tok, err := ParseToken(text); err == nil && tok.Encode() != text {
			t.Fatal("does not come back")
		}
	})
}
