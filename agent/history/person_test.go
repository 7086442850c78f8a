package history

import (
	"os"
	"strings"
	"testing"
)

func TestPerson(t *testing.T) {
	names := func(uid int) string { return map[int]string{0: "root", 1000: "alice"}[uid] }
	for _, tt := range []struct {
		name     string
		uid      int
		sudoUser string
		want     string
	}{
		{"user", 1000, "", "user alice"},
		{"no name", 1234, "", "uid 1234"},
		{"root", 0, "", "user root"},
		{"sudo", 0, "alice", "user alice via sudo"},
		{"sudo of a domain user", 0, `ACME\alice.b@acme`, `user ACME\alice.b@acme via sudo`},
		{"sudo by root", 0, "root", "user root"},
		{"sudo to another user", 1000, "bob", "user alice"},
		{"sudo variable is no name", 0, "alice\nuser bob", "user root"},
		{"sudo variable is an option", 0, "-x", "user root"},
		{"sudo variable is long", 0, strings.Repeat("a", 65), "user root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := person(tt.uid, tt.sudoUser, names); got != tt.want {
				t.Errorf("person %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPersonOfThisProcess(t *testing.T) {
	t.Setenv("SUDO_USER", "")
	got := Person()
	if !strings.HasPrefix(got, "user ") && !strings.HasPrefix(got, "uid ") {
		t.Errorf("person %q", got)
	}
	if os.Getuid() != 0 {
		return
	}
	t.Setenv("SUDO_USER", "alice")
	if got := Person(); got != "user alice via sudo" {
		t.Errorf("person %q", got)
	}
}
