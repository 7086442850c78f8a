package tunnel_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"drawbridge/tunnel"
)

// TestPrivateKeyIsRedacted: no verb, encoder or handler prints a key, wherever
// it stands.
func TestPrivateKeyIsRedacted(t *testing.T) {
	raw := [tunnel.KeyLen]byte{}
	for i := range raw {
		raw[i] = byte(101 + i)
	}
	k := tunnel.PrivateKeyOf(&raw)
	nested := struct {
		Shown  tunnel.PrivateKey
		hidden tunnel.PrivateKey
		config tunnel.Config
		list   []tunnel.PrivateKey
	}{k, k, tunnel.Config{PrivateKey: k}, []tunnel.PrivateKey{k}}
	var out bytes.Buffer
	for _, v := range []any{k, &k, nested, &nested, nested.config, &nested.config, nested.list, map[string]tunnel.PrivateKey{"k": k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%b", "%o", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("a key", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("a key", "v", v)
		fmt.Fprintln(&out, fmt.Errorf("with %v", v))
	}
	text := out.String()
	for _, secret := range []string{
		string(raw[:4]), k.Base64()[:8], hex.EncodeToString(raw[:4]), strings.ToUpper(hex.EncodeToString(raw[6:10])),
		"101 102", "101,102", "101, 102", "0x65, 0x66", "65 66 67", "145 146 147", "1100101 1100110", "U+0065",
	} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%q is told: ...%s", secret, text[max(0, i-60):i+20])
		}
	}
	if !strings.Contains(text, "(redacted)") {
		t.Error("nothing says that it is redacted")
	}
}

func TestPrivateKeyForms(t *testing.T) {
	k, err := tunnel.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := tunnel.ParsePrivateKey(k.Base64())
	if err != nil || !again.Equal(k) || again.Hex() != k.Hex() || k.IsZero() {
		t.Errorf("a key does not come back, %v", err)
	}
	other, err := tunnel.NewPrivateKey()
	if err != nil || other.Equal(k) {
		t.Errorf("two keys are equal, %v", err)
	}
	var none tunnel.PrivateKey
	if !none.IsZero() || !none.Equal(tunnel.PrivateKeyOf(new([tunnel.KeyLen]byte))) || none.Equal(k) {
		t.Error("the zero value is not the key of zeros")
	}
	for _, bad := range []string{"", "x", k.Base64()[:40], k.Base64() + "AAAA"} {
		if _, err := tunnel.ParsePrivateKey(bad); err == nil || len(bad) > 8 && strings.Contains(err.Error(), bad) {
			t.Errorf("%d characters: %v", len(bad), err)
		}
	}
}
