package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Bounds of a command.
const (
	commandLimit   = 256 << 10 // bytes of a body; a notice of roots is the largest
	commandTimeout = 30 * time.Second
	maxActor       = 128
)

// Command is the body of every command; which fields count depends on it.
type Command struct {
	Node   string `json:"node,omitempty"`   // name or id: revoke, quarantine, release
	Reason string `json:"reason,omitempty"` // one word, for the history
	Notice []byte `json:"notice,omitempty"` // notice: a statement signed elsewhere, by the root
}

// Done is the answer to a command: what was done, to whom, in words for people.
type Done struct {
	SchemaVersion int    `json:"schema_version"`
	Node          string `json:"node"` // id; "" where no node is meant
	Name          string `json:"name"`
	Text          string `json:"text"`
	Told          int    `json:"told"` // living nodes that were told at once
}

// Commands are what a person may ask of the agent. Each returns when the wish
// is on disk and on its way to the others; refusals are an [*Error]. actor is
// who asked, for the history.
type Commands interface {
	Revoke(ctx context.Context, c Command, actor string) (Done, error)
	Quarantine(ctx context.Context, c Command, actor string) (Done, error)
	Release(ctx context.Context, c Command, actor string) (Done, error)
	Publish(ctx context.Context, c Command, actor string) (Done, error)
	Leave(ctx context.Context, c Command, actor string) (Done, error)
}

// actorHeader carries who a privileged caller says they are (sudo hides that
// from the socket). Others are who the kernel says.
const actorHeader = "Drawbridge-Actor"

// command serves one command to those who may give one: root and the user that
// the agent runs as.
func (s *Server) command(run func(Commands, context.Context, Command, string) (Done, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		actor, err := caller(r)
		if err != nil {
			s.refuse(w, http.StatusForbidden, Error{
				Code: "denied", Message: err.Error(), Next: "use sudo: commands are for root and for the user that the agent runs as",
			})
			return
		}
		if s.opts.Commands == nil {
			s.refuse(w, http.StatusNotImplemented, Error{Code: "no-commands", Message: "this agent takes no commands"})
			return
		}
		var c Command
		if bad := decodeCommand(w, r, &c); bad != nil {
			s.refuse(w, http.StatusBadRequest, *bad)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
		defer cancel()
		done, err := run(s.opts.Commands, ctx, c, actor)
		if err != nil {
			e := Error{Code: "failed", Message: err.Error()}
			var refusal *Error
			if errors.As(err, &refusal) {
				e = *refusal
			}
			status := e.Status
			if status == 0 {
				status = http.StatusConflict
			}
			s.refuse(w, status, e)
			return
		}
		done.SchemaVersion = SchemaVersion
		s.answer(w, http.StatusOK, done)
	}
}

// decodeCommand reads a body strictly. A form that a browser could be made to
// send is refused by its type.
func decodeCommand(w http.ResponseWriter, r *http.Request, into *Command) *Error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &Error{Code: "bad-command", Message: "a command is JSON", Next: "send it as application/json"}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, commandLimit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return &Error{Code: "bad-command", Message: "decode command: " + err.Error(), Next: "compare the versions of this command and of the agent"}
	}
	return nil
}

// peerKey finds the other end of a connection in a request's context.
type peerKey struct{}

// peer is who the kernel says is at the other end; uid -1: it did not say.
type peer struct{ uid int }

// withPeer notes the other end of a new connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peer{peerUID(conn)})
}

// caller names who gives a command, or says why they may not.
func caller(r *http.Request) (string, error) {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok || p.uid < 0 {
		return "", errors.New("the system does not tell who asks")
	}
	if p.uid != 0 && p.uid != os.Getuid() {
		return "", fmt.Errorf("user %d may ask, but not command", p.uid)
	}
	claim := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, r.Header.Get(actorHeader))
	if claim == "" {
		return fmt.Sprintf("uid %d", p.uid), nil
	}
	return claim[:min(len(claim), maxActor)], nil
}

// Command gives a command: revoke, quarantine, release, notice or leave. actor is
// who asks, for the history; "" is left to the agent.
func (c *Client) Command(ctx context.Context, verb string, cmd Command, actor string) (Done, error) {
	body, err := json.Marshal(cmd)
	if err != nil {
		return Done{}, fmt.Errorf("encode command: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/"+verb, strings.NewReader(string(body)))
	if err != nil {
		return Done{}, fmt.Errorf("command agent: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(actorHeader, actor)
	b, err := c.do(req)
	if err != nil {
		return Done{}, err
	}
	var done Done
	if err := json.Unmarshal(b, &done); err != nil {
		return Done{}, fmt.Errorf("decode answer of agent: %w", err)
	}
	return done, nil
}
