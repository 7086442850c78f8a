package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Run serves connections of ln, which it closes, until ctx ends; then it waits
// for those under way, which are cut, and returns nil.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	if _, err := s.certificate(nil); err != nil {
		return fmt.Errorf("serve enrolment: %w", err)
	}
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve enrolment: %w", err)
		}
		if err != nil {
			// Out of file descriptors, or a connection that is gone already.
			s.log.Warn("accept", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		from := remote(conn)
		if !s.limit.enter(from.Addr(), s.now()) {
			conn.Close()
			continue
		}
		conns.Go(func() {
			defer s.limit.leave(from.Addr())
			s.serve(ctx, conn, from)
		})
	}
}

// serve handles one connection.
func (s *Server) serve(ctx context.Context, conn net.Conn, from netip.AddrPort) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(exchangeTime))
	tc := tls.Server(conn, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protoALPN},
		SessionTicketsDisabled: true,
		GetCertificate:         s.certificate,
	})
	if err := s.exchange(ctx, tc, from); err != nil {
		s.log.Debug("enrolment connection", "endpoint", from, "err", err)
	}
	_ = tc.Close() // says goodbye; conn.Close ends it in any case
}
