package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ServeApp is a plain application server: /healthz says ok, /bulk streams for
// as long as somebody reads, /sink reads for as long as somebody sends, everything else is answered with the server's
// name.
func ServeApp(ctx context.Context, name string, listen netip.AddrPort) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/bulk", serveBulk)
	mux.HandleFunc("/sink", serveSink)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name+"\n") })
	return serve(ctx, []server{{addr: listen.String(), handler: mux}})
}

// server is one listener with its handler; an addr with a slash is a unix
// socket.
type server struct {
	addr    string
	handler http.Handler
}

// serve runs all servers until ctx ends or one fails.
func serve(ctx context.Context, servers []server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	errs := make(chan error, len(servers))
	for _, s := range servers {
		network := "tcp4"
		if strings.Contains(s.addr, "/") {
			network = "unix"
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, network, s.addr)
		if err != nil {
			cancel()
			return fmt.Errorf("listen on %s: %w", s.addr, err)
		}
		h := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second}
		tasks.Go(func() {
			defer cancel()
			if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				errs <- err
			}
		})
		stop := context.AfterFunc(ctx, func() { _ = h.Close() })
		defer stop()
	}
	<-ctx.Done()
	tasks.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// Request is what became of one request of the user.
type Request struct {
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"` // ns
	By    string        `json:"by"`   // the server that answered; "" when none did
	Err   string        `json:"err,omitempty"`
}

// OK reports whether the user got an answer.
func (r Request) OK() bool { return r.Err == "" }

// requestTimeout is the user's patience.
const requestTimeout = 2 * time.Second

// ServeUser asks url rate times a second, each time over a new connection, and
// prints what became of each request as one line of JSON, until ctx ends.
func ServeUser(ctx context.Context, url string, rate int, out io.Writer) error {
	if rate < 1 || rate > 1000 {
		return fmt.Errorf("rate %d: want 1 to 1000 a second", rate)
	}
	client := &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	var mu sync.Mutex // guards the encoder
	enc := json.NewEncoder(out)
	var asks sync.WaitGroup
	defer asks.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		asks.Go(func() {
			r := ask(ctx, client, url)
			if ctx.Err() != nil {
				return // cut short by us, not by the network
			}
			mu.Lock()
			defer mu.Unlock()
			_ = enc.Encode(r) // a reader that is gone ends us by ctx
		})
	}
}

func ask(ctx context.Context, client *http.Client, url string) Request {
	r := Request{Start: time.Now()}
	by, err := get(ctx, client, url)
	r.Took = time.Since(r.Start)
	r.By = by
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %d", res.StatusCode)
	}
	return strings.TrimSpace(string(b)), nil
}
