package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigCheck(t *testing.T) {
	good, bad := write(t, "version: 1\nmtu: 1300\n"), write(t, "version: 1\nmtuu: 1300\n")
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"good", []string{good}, 0, good + ": ok\n", ""},
		{"good, for programs", []string{"--json", good}, 0, `"problems": []`, ""},
		{"bad", []string{bad}, 1, bad + ":2:1: ", ""},
		{"bad, for programs", []string{"--json", bad}, 1, `"ok": false`, ""},
		{"missing", []string{good + ".not"}, 1, "", "no such file"},
		{"not named", nil, 2, "", "config check --help"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := call(t, append([]string{"config", "check"}, tt.args...)...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
		})
	}
}

// What is shown can be put in place of the file.
func TestConfigShowReadsAsTheSame(t *testing.T) {
	code, first, stderr := call(t, "config", "show", write(t, "version: 1\nmtu: 1300\n"))
	if code != 0 || !strings.Contains(first, "mtu: 1300") {
		t.Fatalf("exit code %d: %s%s", code, first, stderr)
	}
	again := write(t, first)
	if code, second, stderr := call(t, "config", "show", again); code != 0 || second != first {
		t.Errorf("exit code %d: %s\nwant %s\n%s", code, second, first, stderr)
	}
}

func TestConfigShowJSON(t *testing.T) {
	code, stdout, stderr := call(t, "config", "show", "--json", write(t, "version: 1\nmtu: 1300\n"))
	var got effective
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || got.SchemaVersion != 1 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	found := false
	for _, s := range got.Settings {
		if s.Key == "mtu" {
			found = s.Value == "1300" && !s.Default
		}
	}
	if !found {
		t.Errorf("mtu 1300 is not among %+v", got.Settings)
	}
}

func TestConfigShowOfMissingFile(t *testing.T) {
	if code, _, stderr := call(t, "config", "show", filepath.Join(t.TempDir(), "none.yaml")); code != 1 || stderr == "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
