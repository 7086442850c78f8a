package netstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"drawbridge/tunnel"
)

// headerTimeout bounds how long a client may take to say where it wants to go.
const headerTimeout = 10 * time.Second

// Connect is an HTTP CONNECT proxy (RFC 9110, section 9.3.6) on a loopback
// address that leads into the mesh and nowhere else. It is the outbound side
// of a node without a TUN: HTTPS_PROXY and the like point to it.
//
// The destination is checked, the client is not: on a host with a TUN every
// local program could reach the overlay as well.
type Connect struct {
	Listen  string       // host:port; a loopback address, port 0 lets the system choose
	Mesh    netip.Prefix // the only destinations
	Network tunnel.Network
	Logger  *slog.Logger // nil discards

	once  sync.Once
	ready chan struct{}
	mu    sync.Mutex // guards addr
	addr  netip.AddrPort
}

func (p *Connect) init() {
	p.once.Do(func() {
		p.ready = make(chan struct{})
		if p.Logger == nil {
			p.Logger = slog.New(slog.DiscardHandler)
		}
	})
}

// Ready is closed when the proxy listens.
func (p *Connect) Ready() <-chan struct{} {
	p.init()
	return p.ready
}

// Addr is where the proxy listens; the zero value before it is ready.
func (p *Connect) Addr() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// String names the task.
func (p *Connect) String() string { return "overlay connect proxy" }

// Run serves until ctx ends and waits for all connections to end with it. It
// fails when Listen is not a loopback address or cannot be bound.
func (p *Connect) Run(ctx context.Context) error {
	p.init()
	at, err := netip.ParseAddrPort(p.Listen)
	if err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("listen on %q: not a loopback address with a port; the proxy is for this host only", p.Listen)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: %w; stop the other process or set another connect_proxy", p.Listen, tunnel.ErrPortTaken)
	}
	if err != nil {
		return fmt.Errorf("listen for connect proxy: %w", err)
	}
	p.mu.Lock()
	p.addr = netip.MustParseAddrPort(l.Addr().String())
	p.mu.Unlock()

	// Tunnelled connections leave the server's care; they are counted here.
	var tunnels sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	srv := &http.Server{
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(p.Logger.Handler(), slog.LevelDebug),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(ctx, w, r, &tunnels) }),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	close(p.ready)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-served:
		served <- err
		err = fmt.Errorf("serve connect proxy: %w", err)
	}
	cancel()
	// Handlers return at once now that ctx has ended, so this is short.
	bye, stop := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer stop()
	if srv.Shutdown(bye) != nil {
		err = errors.Join(err, srv.Close())
	}
	<-served
	tunnels.Wait()
	return err
}

func (p *Connect) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, tunnels *sync.WaitGroup) {
	tunnels.Add(1) // before the server could forget the connection
	defer tunnels.Done()
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		http.Error(w, "only CONNECT to an overlay address is served here", http.StatusMethodNotAllowed)
		return
	}
	to, err := netip.ParseAddrPort(r.Host)
	if err != nil || !p.Mesh.Contains(to.Addr()) {
		p.Logger.Debug("destination refused", "endpoint", r.Host)
		http.Error(w, fmt.Sprintf("only addresses inside the mesh prefix %v can be reached through this proxy", p.Mesh), http.StatusForbidden)
		return
	}
	dial, stop := context.WithTimeout(ctx, headerTimeout)
	defer stop()
	far, err := p.Network.DialContext(dial, "tcp", to)
	if err != nil {
		code := http.StatusBadGateway
		if errors.Is(err, context.DeadlineExceeded) {
			code = http.StatusGatewayTimeout
		}
		http.Error(w, err.Error(), code)
		return
	}
	near, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		near.Close()
		far.Close()
		return
	}
	if err := join(ctx, &early{near, buf.Reader}, far); err != nil {
		p.Logger.Debug("tunnelled connection ended", "endpoint", to, "err", err)
	}
}

// early is a connection of which some bytes were already read: a client may
// talk on before it saw our answer.
type early struct {
	net.Conn
	r *bufio.Reader
}

func (e *early) Read(b []byte) (int, error) {
	if e.r.Buffered() > 0 {
		return e.r.Read(b)
	}
	return e.Conn.Read(b)
}

func (e *early) CloseWrite() error {
	return e.Conn.(interface{ CloseWrite() error }).CloseWrite()
}
