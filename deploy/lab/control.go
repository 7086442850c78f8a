package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Verbs of the control socket.
const (
	VerbCut    = "cut"    // SITE
	VerbHeal   = "heal"   // SITE
	VerbLoss   = "loss"   // SITE PERCENT
	VerbKill   = "kill"   // NODE
	VerbStart  = "start"  // NODE
	VerbPause  = "pause"  // NODE
	VerbResume = "resume" // NODE
	VerbStop   = "stop"
)

type controlRequest struct {
	Verb    string `json:"verb"`
	Subject string `json:"subject"`
	Percent string `json:"percent,omitempty"`
}

type controlAnswer struct {
	Err string `json:"err,omitempty"`
}

// serveControl opens the control socket and serves it until Close.
func (l *Lab) serveControl() error {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", filepath.Join(l.dir, controlFile))
	if err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(l.serveVerb), ReadHeaderTimeout: 5 * time.Second}
	l.control.Go(func() { _ = srv.Serve(ln) })
	l.control.Go(func() {
		<-ctx.Done()
		// Whoever asked to stop gets an answer first.
		bye, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		if srv.Shutdown(bye) != nil {
			_ = srv.Close()
		}
	})
	return nil
}

func (l *Lab) serveVerb(w http.ResponseWriter, r *http.Request) {
	var req controlRequest
	err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&req)
	if err == nil {
		err = l.obey(req)
	}
	var a controlAnswer
	if err != nil {
		a.Err = err.Error()
	}
	_ = json.NewEncoder(w).Encode(a) // the asker may be gone
}

func (l *Lab) obey(r controlRequest) error {
	do := map[string]func(string) error{
		VerbCut: l.Cut, VerbHeal: l.Heal, VerbKill: l.Kill, VerbStart: l.Start,
		VerbPause: l.Pause, VerbResume: l.Resume,
		VerbLoss: func(site string) error {
			pct, err := strconv.Atoi(r.Percent)
			if err != nil {
				return fmt.Errorf("loss of %q %%: want a whole number", r.Percent)
			}
			return l.Loss(site, pct)
		},
		VerbStop: func(string) error {
			l.stopOnce.Do(func() { close(l.stopped) })
			return nil
		},
	}[r.Verb]
	if do == nil {
		return fmt.Errorf("unknown verb %q", r.Verb)
	}
	if err := do(r.Subject); err != nil {
		return err
	}
	l.say("told to %s", strings.TrimSpace(r.Verb+" "+r.Subject+" "+r.Percent))
	return nil
}

// ErrNoLab says that no lab answers in the directory.
var ErrNoLab = errors.New("no lab is running")

// Tell sends a verb to the lab that runs in dir ("" means DefaultDir). args
// are the verb's subject and, for loss, the percentage.
func Tell(ctx context.Context, dir, verb string, args ...string) error {
	if dir == "" {
		dir = DefaultDir()
	}
	req := controlRequest{Verb: verb}
	if len(args) > 0 {
		req.Subject = args[0]
	}
	if len(args) > 1 {
		req.Percent = args[1]
	}
	var a controlAnswer
	err := overSocket(ctx, filepath.Join(dir, controlFile), req, &a)
	var dial *net.OpError
	switch {
	case errors.As(err, &dial):
		return fmt.Errorf("%w in %s: start one with `drawbridge lab up`: %w", ErrNoLab, dir, err)
	case err != nil:
		return err
	case a.Err != "":
		return errors.New(a.Err)
	}
	return nil
}

// overSocket posts a question to an HTTP server on a unix socket.
func overSocket(ctx context.Context, path string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lab/", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	return nil
}
