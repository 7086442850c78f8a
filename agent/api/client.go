package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// answerLimit bounds what a client reads of one answer, bytes.
const answerLimit = 64 << 20

// The errors of a client, wrapped with the particulars. Every one that a
// person can do something about has a NextStep.
var (
	// ErrNotRunning: no agent answers on the socket.
	ErrNotRunning = errors.New("the agent is not running")
	// ErrDenied: this user may not use the socket.
	ErrDenied = errors.New("not permitted to talk to the agent")
)

// Error is a refusal by the agent.
type Error struct {
	Status  int    `json:"-"` // HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next"`
}

// Error says what was refused.
func (e *Error) Error() string { return e.Message }

// NextStep says what to do about it.
func (e *Error) NextStep() string { return e.Next }

// failure is the answer that carries an Error.
type failure struct {
	SchemaVersion int    `json:"schema_version"`
	Error         *Error `json:"error"`
}

// connectError is a socket that could not be reached.
type connectError struct {
	kind  error // ErrNotRunning or ErrDenied
	cause error
	next  string
}

func (e *connectError) Error() string    { return fmt.Sprintf("%v: %v", e.kind, e.cause) }
func (e *connectError) NextStep() string { return e.next }
func (e *connectError) Unwrap() []error  { return []error{e.kind, e.cause} }

// Client asks the agent behind a socket. Its methods may be called from any
// goroutine.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the agent behind socket; "" means DefaultSocket.
// Nothing is dialled until something is asked.
func NewClient(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		return d.DialContext(ctx, "unix", socket)
	}
	// A connection per request: verbs ask once, and nothing is left to close.
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks for everything the agent tells of itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// Members asks who is there.
func (c *Client) Members(ctx context.Context) (Members, error) {
	return get[Members](ctx, c, "/v1/members")
}

// Why asks for the reasons of the decision about a node, site or route.
func (c *Client) Why(ctx context.Context, subject string) (Why, error) {
	return get[Why](ctx, c, "/v1/why?subject="+url.QueryEscape(subject))
}

// Plan asks which AWS calls the agent would make. The agent reads AWS for it.
func (c *Client) Plan(ctx context.Context) (Plan, error) { return get[Plan](ctx, c, "/v1/plan") }

// Trust asks who is trusted, and who no longer.
func (c *Client) Trust(ctx context.Context) (Trust, error) { return get[Trust](ctx, c, "/v1/trust") }

// Events asks for the events after the given number; 0 asks for all that are
// kept.
func (c *Client) Events(ctx context.Context, since uint64) (Events, error) {
	return get[Events](ctx, c, "/v1/events?since="+strconv.FormatUint(since, 10))
}

// Live asks whether the agent answers. The error tells why it does not.
func (c *Client) Live(ctx context.Context) (Check, error) { return get[Check](ctx, c, "/livez") }

// Readiness asks whether the agent can carry traffic. An agent that answers
// that it cannot is no error: see Check.OK.
func (c *Client) Readiness(ctx context.Context) (Check, error) { return get[Check](ctx, c, "/readyz") }

// Raw asks for a path with its query and returns the JSON as the agent sent
// it, fields unknown to this client included.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask agent: %w", err)
	}
	return c.do(req)
}

func (c *Client) do(req *http.Request) ([]byte, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("read answer of agent: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return b, nil
	}
	var f failure
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("ask agent: answer %s is not of a drawbridge agent", res.Status)
	}
	if f.Error != nil {
		f.Error.Status = res.StatusCode
		if res.StatusCode == http.StatusForbidden {
			return nil, &connectError{kind: ErrDenied, cause: f.Error, next: f.Error.Next}
		}
		return nil, f.Error
	}
	return b, nil // a check that is false
}

// explain turns what dialling said into what a person can act upon.
func (c *Client) explain(err error) error {
	var op *url.Error
	if errors.As(err, &op) {
		err = op.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &connectError{kind: ErrDenied, cause: err, next: "use sudo, or join the group that owns " + c.socket}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return &connectError{kind: ErrNotRunning, cause: err, next: "is `drawbridge agent` running? socket " + c.socket}
	}
	return fmt.Errorf("ask agent: %w", err)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var v T
	b, err := c.Raw(ctx, path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("decode answer of agent: %w", err)
	}
	return v, nil
}
