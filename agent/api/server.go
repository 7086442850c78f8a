package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"drawbridge/agent/decide"
)

// DefaultSocket is where agent and verbs meet unless told otherwise.
const DefaultSocket = "/run/drawbridge/agent.sock"

// Options of a server. Source is required.
type Options struct {
	Socket string // path; "" means DefaultSocket
	Source Source
	// Explain tells the decision about a subject (node, site or route) in
	// lines for people; ok is false when there is no such subject. Nil: /v1/why
	// answers that it cannot.
	Explain func(p *decide.Plan, s *decide.Snapshot, subject string) (lines []string, ok bool)
	// Commands carries out what a person asks; nil: nothing can be asked.
	Commands Commands
	Logger   *slog.Logger // nil discards
}

// Server answers on the socket.
type Server struct {
	opts  Options
	ready chan struct{}
}

// New makes a server; Run starts it.
func New(opts Options) *Server {
	if opts.Socket == "" {
		opts.Socket = DefaultSocket
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{opts: opts, ready: make(chan struct{})}
}

// String names the task.
func (s *Server) String() string { return "api" }

// Ready is closed when the socket listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run answers until ctx ends and returns nil then. It returns [ErrSocketTaken]
// when another agent answers there. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	ln, err := claim(ctx, s.opts.Socket)
	if err != nil {
		return err
	}
	ours, err := os.Lstat(s.opts.Socket)
	if err != nil {
		s.opts.Logger.Warn("look at own socket", "err", err)
	}
	defer release(ln, s.opts.Socket, ours)

	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	close(s.ready)
	select {
	case err = <-done:
		return fmt.Errorf("serve api: %w", err)
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := srv.Shutdown(sctx); err != nil {
		srv.Close() //nolint:errcheck // the process is leaving; so are its connections
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve api: %w", err)
	}
	return nil
}
