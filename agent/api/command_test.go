package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// butler notes what it was asked.
type butler struct {
	verb, actor string
	got         Command
	err         error
}

func (b *butler) do(verb string, c Command, actor string) (Done, error) {
	b.verb, b.actor, b.got = verb, actor, c
	return Done{Node: "n1", Name: c.Node, Text: "done", Told: 3}, b.err
}

func (b *butler) Revoke(_ context.Context, c Command, actor string) (Done, error) {
	return b.do("revoke", c, actor)
}

func (b *butler) Quarantine(_ context.Context, c Command, actor string) (Done, error) {
	return b.do("quarantine", c, actor)
}

func (b *butler) Release(_ context.Context, c Command, actor string) (Done, error) {
	return b.do("release", c, actor)
}

func (b *butler) Publish(_ context.Context, c Command, actor string) (Done, error) {
	return b.do("notice", c, actor)
}

func (b *butler) Leave(_ context.Context, c Command, actor string) (Done, error) {
	return b.do("leave", c, actor)
}

func TestCommands(t *testing.T) {
	b := &butler{}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	t.Cleanup(start(t, Options{Socket: socket, Source: roomGoesDark(), Commands: b}))
	c := NewClient(socket)
	for _, verb := range []string{"revoke", "quarantine", "release", "notice", "leave"} {
		want := Command{Node: "gpu-1", Reason: "test", Notice: []byte{1, 2}}
		done, err := c.Command(t.Context(), verb, want, "user alice via sudo")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Done{SchemaVersion: 1, Node: "n1", Name: "gpu-1", Text: "done", Told: 3}, done); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
		if b.verb != verb || b.actor != "user alice via sudo" || !cmp.Equal(b.got, want) {
			t.Errorf("%s: carried out %s for %q: %+v", verb, b.verb, b.actor, b.got)
		}
	}

	b.err = &Error{Status: http.StatusNotFound, Code: "unknown-node", Message: "no such node", Next: "look"}
	_, err := c.Command(t.Context(), "revoke", Command{Node: "x"}, "")
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != "unknown-node" || refusal.Status != http.StatusNotFound || refusal.Next != "look" {
		t.Errorf("refusal = %v, want what the house said", err)
	}
	b.err = errors.New("disk is full")
	if _, err := c.Command(t.Context(), "revoke", Command{Node: "x"}, ""); !errors.As(err, &refusal) || refusal.Code != "failed" || refusal.Message != "disk is full" {
		t.Errorf("failure = %v, want its words", err)
	}
	if b.actor == "" {
		t.Error("a command without a claim has no actor, want the user id")
	}
}

// TestCommandBodies: what is not a command of this version is refused, and
// nothing is carried out.
func TestCommandBodies(t *testing.T) {
	b := &butler{}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	t.Cleanup(start(t, Options{Socket: socket, Source: roomGoesDark(), Commands: b}))
	c := NewClient(socket)
	for _, tt := range []struct{ name, kind, body string }{
		{"a form", "application/x-www-form-urlencoded", "node=gpu-1"},
		{"no type", "", `{"node":"gpu-1"}`},
		{"unknown field", "application/json", `{"node":"gpu-1","force":true}`},
		{"two values", "application/json", `{"node":"gpu-1"} {}`},
		{"no JSON", "application/json", `node`},
		{"empty", "application/json", ``},
		{"huge", "application/json", `{"node":"` + strings.Repeat("x", commandLimit) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/v1/revoke", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.kind)
			_, err = c.do(req)
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != "bad-command" {
				t.Errorf("answer %v, want bad-command", err)
			}
		})
	}
	if b.verb != "" {
		t.Errorf("%s was carried out", b.verb)
	}
}

func TestCommandWithoutHouse(t *testing.T) {
	c, _ := serve(t, roomGoesDark())
	_, err := c.Command(t.Context(), "revoke", Command{Node: "gpu-1"}, "")
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != "no-commands" {
		t.Errorf("answer %v, want no-commands", err)
	}
}

// TestCallerIsWhoTheKernelSays: only root and the agent's own user may command.
func TestCallerIsWhoTheKernelSays(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		wantErr bool
	}{
		{"root", context.WithValue(t.Context(), peerKey{}, peer{0}), false},
		{"the agent's user", context.WithValue(t.Context(), peerKey{}, peer{os.Getuid()}), false},
		{"another user", context.WithValue(t.Context(), peerKey{}, peer{os.Getuid() + 1}), true},
		{"not known", context.WithValue(t.Context(), peerKey{}, peer{-1}), true},
		{"no socket", t.Context(), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(tt.ctx, http.MethodPost, "http://agent/v1/revoke", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := caller(r); (err != nil) != tt.wantErr {
				t.Errorf("caller = %v", err)
			}
		})
	}
}

func TestTrustIsAnswered(t *testing.T) {
	h := roomGoesDark()
	h.trust = Trust{Epoch: 3, Roots: []Root{{Pin: "sha256:00", Current: true}}, Notices: []Notice{{Kind: "revoked", Name: "gpu-9"}}}
	c, _ := serve(t, h)
	got, err := c.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := h.trust
	want.SchemaVersion = SchemaVersion
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
