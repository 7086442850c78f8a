package check

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/discovery"

	"github.com/google/go-cmp/cmp"
)

// begin runs a checker and returns its reports.
func begin(t *testing.T, o Options) (*Checker, <-chan []discovery.Service) {
	t.Helper()
	reports := make(chan []discovery.Service, 100)
	o.Report = func(l []discovery.Service) { reports <- l }
	c := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-c.Ready()
	return c, reports
}

// server is a dialer whose services are up, down or hang, by the switch.
type server struct {
	up, hang atomic.Bool
	dials    atomic.Int32
}

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.dials.Add(1)
	if s.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !s.up.Load() {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	b.Close()
	return a, nil
}

func tcpSpec(name string, port uint16) discovery.ServiceSpec {
	return discovery.ServiceSpec{Name: name, Port: port, Check: discovery.CheckSpec{Kind: discovery.CheckTCP}}
}

func TestFirstReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		_, reports := begin(t, Options{Dial: s.dial, Specs: []discovery.ServiceSpec{
			tcpSpec("web", 8080),
			{Name: "batch", Port: 9000, Capacity: 4},
		}})
		want := []discovery.Service{
			{Name: "batch", Port: 9000, Check: discovery.CheckPassing, Capacity: 4},
			{Name: "web", Port: 8080, Check: discovery.CheckUnknown, Capacity: 1},
		}
		if diff := cmp.Diff(want, <-reports); diff != "" {
			t.Errorf("first report (-want +got):\n%s", diff)
		}
	})
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		s.up.Store(true)
		_, reports := begin(t, Options{Dial: s.dial, Specs: []discovery.ServiceSpec{tcpSpec("web", 8080)}})
		<-reports
		next := func(want discovery.CheckState, least, most time.Duration) {
			t.Helper()
			start := time.Now()
			got := <-reports
			if got[0].Check != want {
				t.Errorf("state %s, want %s", got[0].Check, want)
			}
			if d := time.Since(start); d < least || d > most {
				t.Errorf("%s after %v, want %v to %v", want, d, least, most)
			}
		}
		next(discovery.CheckPassing, 0, 500*time.Millisecond) // jitter at the start
		s.up.Store(false)
		next(discovery.CheckFailing, 2*time.Second, 4*time.Second)
		s.up.Store(true)
		next(discovery.CheckPassing, 2*time.Second, 4*time.Second)
		s.hang.Store(true)
		next(discovery.CheckFailing, 3*time.Second, 5*time.Second) // and the timeout
		time.Sleep(time.Minute)
		if len(reports) != 0 {
			t.Errorf("%d reports without a change", len(reports))
		}
	})
}

func TestPaceAndIndependence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var good, hung server
		good.up.Store(true)
		hung.hang.Store(true)
		slow := tcpSpec("slow", 2)
		slow.Check.Timeout = 7 * time.Second // longer than its interval
		_, reports := begin(t, Options{
			Specs: []discovery.ServiceSpec{tcpSpec("web", 1), slow},
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasSuffix(addr, ":2") {
					return hung.dial(ctx, network, addr)
				}
				return good.dial(ctx, network, addr)
			},
		})
		time.Sleep(100 * time.Second)
		if n := good.dials.Load(); n < 49 || n > 51 {
			t.Errorf("%d checks in 100 s, want 50", n)
		}
		if n := hung.dials.Load(); n < 13 || n > 16 {
			t.Errorf("%d checks of the hung service in 100 s, want 14", n)
		}
		var last []discovery.Service
		for len(reports) > 0 {
			last = <-reports
		}
		if last[0].Check != discovery.CheckFailing || last[1].Check != discovery.CheckPassing {
			t.Errorf("states %v", last)
		}
	})
}

func TestHTTP(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	for _, code := range []string{"200", "204", "302", "399", "400", "404", "500", "503"} {
		mux.HandleFunc("/"+code, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/hang") // followed, it would hang
			w.WriteHeader(int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0'))
		})
	}
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-hang })
	mux.HandleFunc("/half", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		<-hang
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Big", strings.Repeat("x", 2*maxHeader))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(hang) })
	to := netip.MustParseAddrPort(srv.Listener.Addr().String())
	c := New(Options{})
	for _, tt := range []struct {
		path string
		err  string // "" passes
	}{
		{"/200", ""},
		{"/204", ""},
		{"/302", ""},
		{"/399", ""},
		{"/endless", ""},
		{"/400", "status 400"},
		{"/404", "status 404"},
		{"/500", "status 500"},
		{"/503", "status 503"},
		{"/hang", "no answer within 300ms"},
		{"/half", "no answer within 300ms"},
		{"/headers", "exceeded"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			timeout := 10 * time.Second
			if strings.HasPrefix(tt.err, "no answer") {
				timeout = 300 * time.Millisecond
			}
			err := c.attempt(t.Context(), discovery.ServiceSpec{To: to, Check: discovery.CheckSpec{Kind: discovery.CheckHTTP, Path: tt.path, Timeout: timeout}})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	c := New(Options{})
	spec := tcpSpec("web", port)
	spec.Check.Timeout = 10 * time.Second
	if err := c.attempt(t.Context(), spec); err != nil {
		t.Errorf("listening: %v", err)
	}
	l.Close()
	if err := c.attempt(t.Context(), spec); err == nil {
		t.Error("passes with nobody listening")
	}
}
