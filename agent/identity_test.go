package agent

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"drawbridge/discovery"
)

// TestIdentityHidesKeys: whoever logs all of it in haste tells its name.
func TestIdentityHidesKeys(t *testing.T) {
	seed := bytes.Repeat([]byte{201}, ed25519.SeedSize)
	id := &identity{self: discovery.Identity{Name: "gpu-1"}, key: ed25519.NewKeyFromSeed(seed)}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", id)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "id", id)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "id", id)
	text := out.String()
	if !strings.Contains(text, "gpu-1") {
		t.Errorf("prints %s", text)
	}
	for _, bytes := range []string{"201 201", "201,201", "201, 201", "c9c9", "C9C9", "0xc9", "ycnJ"} {
		if strings.Contains(text, bytes) {
			t.Errorf("prints %s in %s", bytes, text)
		}
	}
}
