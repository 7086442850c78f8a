package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/stream"
)

// streams are WireGuard's datagrams over TLS: a server opens them, a gateway
// takes them. Exactly one of the two is set.
type streams struct {
	carrier  *stream.Carrier
	acceptor *stream.Acceptor

	mu     sync.Mutex              // guards chains
	chains map[tunnel.Key][][]byte // acceptor: what the nodes presented last
}

// openStreams prepares this node's side. The device listens already.
func (a *Agent) openStreams(ctx context.Context) error {
	st, err := a.tunnel.device.Status(ctx)
	if err != nil {
		return fmt.Errorf("start streams: %w", err)
	}
	device := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), st.ListenPort)
	log := a.log.With("room", "stream")
	if a.id.self.Role == discovery.RoleGateway {
		a.streams.chains = map[tunnel.Key][][]byte{}
		a.streams.acceptor = stream.NewAcceptor(stream.AcceptorOptions{Device: device, Most: maxStreams, Logger: log})
		return nil
	}
	a.streams.carrier = stream.NewCarrier(stream.CarrierOptions{Device: device, TLS: a.streamTLS, Logger: log})
	return nil
}

// maxStreams is above the number of nodes that a mesh has.
const maxStreams = 4096

// streamTLS is how to reach the gateway with a WireGuard key: whoever else
// answers is refused, before this node has said who it is.
func (a *Agent) streamTLS(key tunnel.Key) (*tls.Config, error) {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{enroll.StreamALPN},
		// The datagrams inside are encrypted end to end already.
		CurvePreferences:            []tls.CurveID{tls.X25519},
		DynamicRecordSizingDisabled: true,
		GetClientCertificate:        a.streamCertificate,
		// Names and public roots mean nothing here, and no name is sent: the
		// certificate must be the wanted gateway's, under the mesh's roots.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != enroll.StreamALPN {
				return errors.New("it takes no streams")
			}
			return a.isGateway(presentedBy(cs), key)
		},
	}, nil
}

// streamCertificate is read anew each time: it renews under us.
func (a *Agent) streamCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	chain, err := a.dir.Chain()
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: a.id.key}, nil
}

func presentedBy(cs tls.ConnectionState) [][]byte {
	var list [][]byte
	for _, c := range cs.PeerCertificates {
		list = append(list, c.Raw)
	}
	return list
}

// isGateway checks that certificates, with roots among them, are the gateway's
// with a WireGuard key.
func (a *Agent) isGateway(presented [][]byte, key tunnel.Key) error {
	why := errors.New("it shows no certificate of this mesh")
	for _, chain := range pki.Alternatives(presented) {
		id, _, err := a.trust.verify(chain)
		switch {
		case err != nil:
			why = err
		case id.Role != discovery.RoleGateway || tunnel.Key(id.WireGuard) != key:
			why = fmt.Errorf("it is %s, a %s", id.Name, id.Role)
		default:
			return nil
		}
	}
	return why
}

// mayStream decides on a node's certificates: members may stream, but for those
// that were put out or set apart.
func (a *Agent) mayStream(presented [][]byte) (discovery.Identity, error) {
	id, _, err := a.trust.verify(presented)
	if err != nil {
		return id, err
	}
	if _, apart := a.trust.roll.Quarantined(id.ID); apart {
		return id, fmt.Errorf("%s is in quarantine", id.Name)
	}
	return id, nil
}

// takeStreams is what enrolment's port does with streams.
func (a *Agent) takeStreams() *enroll.Streams {
	return &enroll.Streams{
		Verify: a.mayStream,
		Serve: func(ctx context.Context, conn net.Conn, id discovery.Identity, from netip.AddrPort) {
			key := tunnel.Key(id.WireGuard)
			if tc, ok := conn.(*tls.Conn); ok {
				a.streams.note(key, presentedBy(tc.ConnectionState()))
			}
			if err := a.streams.acceptor.Serve(ctx, conn, key, from); err != nil {
				a.log.Debug("stream ended", "node", id.ID, "endpoint", from, "err", err)
			}
		},
	}
}

func (s *streams) note(key tunnel.Key, chain [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains[key] = chain
}

// recheckStreams ends the streams of nodes that may not have one any more.
func (a *Agent) recheckStreams() {
	s := &a.streams
	if s.acceptor == nil {
		return
	}
	s.mu.Lock()
	chains := maps.Clone(s.chains)
	s.mu.Unlock()
	s.acceptor.Cut(func(key tunnel.Key) bool {
		_, err := a.mayStream(chains[key])
		return err == nil
	})
}

// doors are where others reach this gateway by TCP: as configured, or every
// endpoint, with the ports of further listeners too.
func (a *Agent) doors() []netip.AddrPort {
	if a.id.self.Role != discovery.RoleGateway {
		return nil
	}
	if _, err := a.dir.IssuerKey(); err != nil {
		return nil // it does not listen, see enrolment
	}
	if len(a.set.Enrolment.Advertise) > 0 {
		return a.set.Enrolment.Advertise
	}
	var out []netip.AddrPort
	add := func(d netip.AddrPort) {
		if len(out) < maxDoors && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, e := range a.endpoints() {
		add(e)
		for _, l := range a.set.Enrolment.Listen {
			add(netip.AddrPortFrom(e.Addr(), l.Port()))
		}
	}
	return out
}

// maxDoors is how many such addresses a record holds.
const maxDoors = 4

func (s *streams) counters() map[string]uint64 {
	if s.carrier != nil {
		return s.carrier.Counters()
	}
	return s.acceptor.Counters()
}

// streamEar tells the world what became of streams.
type streamEar struct {
	streams *streams
	world   *world.World
}

const streamsEvery = time.Second // while there are any: time alone changes what is known

func (e streamEar) String() string { return "stream status" }

// Run listens until ctx ends.
func (e streamEar) Run(ctx context.Context) error {
	status, changed := e.source()
	var last []tunnel.StreamStatus
	for {
		if now := status(); !slices.Equal(now, last) {
			last = now
			e.world.Streams(now)
		}
		var again <-chan time.Time
		if len(last) > 0 {
			again = time.After(streamsEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		}
	}
}

func (e streamEar) source() (func() []tunnel.StreamStatus, <-chan struct{}) {
	if c := e.streams.carrier; c != nil {
		return c.Status, c.Changed()
	}
	return e.streams.acceptor.Status, e.streams.acceptor.Changed()
}
