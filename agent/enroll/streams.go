package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"
)

// StreamALPN is the protocol of connections that carry members' datagrams.
const StreamALPN = "drawbridge-stream/1"

// errNoStreams refuses a connection that was let in for enrolment and became
// something else.
var errNoStreams = errors.New("no streams here")

// configFor is the TLS configuration for who offers to stream; nil: the usual.
// He proves his own key in the handshake, whose cost is that of a stranger.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Contains(hello.SupportedProtos, StreamALPN) {
		return nil, nil
	}
	if s.opts.Streams == nil {
		return nil, errNoStreams
	}
	c := s.tlsConfig()
	c.GetConfigForClient = nil
	c.NextProtos = []string{StreamALPN}
	c.ClientAuth = tls.RequireAnyClientCert
	c.DynamicRecordSizingDisabled = true // whoever streams fills its records
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) > maxChain {
			return errors.New("too many certificates")
		}
		_, err := s.opts.Streams.Verify(rawChain(cs.PeerCertificates))
		return err
	}
	return c, nil
}

func isStream(tc *tls.Conn) bool {
	return tc != nil && tc.ConnectionState().NegotiatedProtocol == StreamALPN
}

// stream lets the house have a connection, to its end.
func (s *Server) stream(ctx context.Context, tc *tls.Conn, g *guest) {
	// Asked again, because it is the answer that names the node.
	id, err := s.opts.Streams.Verify(rawChain(tc.ConnectionState().PeerCertificates))
	if err != nil {
		return // put out in this very moment
	}
	s.limit.counts[countStreams].Add(1)
	s.opts.Streams.Serve(ctx, tc, id, g.from)
}

// handOver ends the bounds that hold for guests.
func (g *guest) handOver() {
	g.handed = true
	g.SetDeadline(time.Time{})
}

// NetConn is the connection below.
func (g *guest) NetConn() net.Conn { return g.Conn }
