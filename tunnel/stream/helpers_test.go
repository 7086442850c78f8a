package stream

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"drawbridge/tunnel"
)

// device is a stand-in for a WireGuard device: a UDP socket.
type device struct {
	*net.UDPConn
	addr netip.AddrPort
}

func newDevice(t testing.TB) *device {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &device{c, c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// get reads one datagram, or nothing within the patience.
func (d *device) get(t *testing.T, patience time.Duration) ([]byte, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 65536)
	d.SetReadDeadline(time.Now().Add(patience))
	n, from, err := d.ReadFromUDPAddrPort(b)
	if err != nil {
		return nil, from
	}
	return b[:n], from
}

func (d *device) put(t *testing.T, b []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := d.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

// data is a datagram of a session with this receiver index.
func data(receiver uint32, counter uint64, size int) []byte {
	b := make([]byte, size)
	b[0] = typeData
	binary.LittleEndian.PutUint32(b[4:], receiver)
	binary.LittleEndian.PutUint64(b[8:], counter)
	return b
}

func counterOf(b []byte) uint64 { return binary.LittleEndian.Uint64(b[8:]) }

func initiation(sender uint32) []byte {
	b := make([]byte, 148)
	b[0] = typeInitiation
	binary.LittleEndian.PutUint32(b[4:], sender)
	return b
}

// names are certificates of a house of its own, by key.
type names struct {
	cert tls.Certificate
	key  tunnel.Key
}

func newName(t testing.TB, n byte) names {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(n)), Subject: pkix.Name{CommonName: string(rune('a' + n))},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	return names{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}, tunnel.Key{n + 1}}
}

var errWho = errors.New("not whom I want")

// tlsFor lets me speak with the other, and with nobody else.
func tlsFor(me, other names) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{me.cert},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if string(cs.PeerCertificates[0].Raw) != string(other.cert.Certificate[0]) {
				return errWho
			}
			return nil
		},
	}
}

// town is a server and a gateway: a carrier and an acceptor with a device each.
type town struct {
	server, gateway        names
	serverDevice, gwDevice *device
	carrier                *Carrier
	acceptor               *Acceptor
	ln                     net.Listener
	wish                   tunnel.Stream
	stop                   func()
	onDial                 func(net.Conn) net.Conn
	mu                     sync.Mutex
	last                   net.Conn // accepted
}

func newTown(t testing.TB) *town {
	t.Helper()
	w := &town{server: newName(t, 1), gateway: newName(t, 2), serverDevice: newDevice(t), gwDevice: newDevice(t)}
	var err error
	if w.ln, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	w.acceptor = NewAcceptor(AcceptorOptions{Device: w.gwDevice.addr})
	running.Go(func() {
		var conns sync.WaitGroup
		defer conns.Wait()
		for {
			raw, err := w.ln.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.last = raw
			w.mu.Unlock()
			conns.Go(func() {
				c := tls.Server(raw, tlsFor(w.gateway, w.server))
				if c.HandshakeContext(ctx) != nil {
					raw.Close()
					return
				}
				_ = w.acceptor.Serve(ctx, c, w.server.key, raw.RemoteAddr().(*net.TCPAddr).AddrPort())
			})
		}
	})
	w.carrier = NewCarrier(CarrierOptions{
		Device: w.serverDevice.addr,
		TLS:    func(tunnel.Key) (*tls.Config, error) { return tlsFor(w.server, w.gateway), nil },
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
			if err == nil && w.onDial != nil {
				c = w.onDial(c)
			}
			return c, err
		},
	})
	running.Go(func() { _ = w.carrier.Run(ctx) })
	w.stop = func() {
		cancel()
		w.ln.Close()
		running.Wait()
	}
	t.Cleanup(w.stop)
	w.wish = tunnel.Stream{Key: w.gateway.key, To: w.ln.Addr().(*net.TCPAddr).AddrPort(), UDP: w.gwDevice.addr}
	return w
}

// up wishes for the stream and waits until it stands.
func (w *town) up(t testing.TB) tunnel.StreamStatus {
	t.Helper()
	w.carrier.Set([]tunnel.Stream{w.wish})
	return w.until(t, "up", func(s tunnel.StreamStatus) bool { return s.Up })
}

func (w *town) until(t testing.TB, what string, ok func(tunnel.StreamStatus) bool) tunnel.StreamStatus {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		st := w.carrier.Status()
		if len(st) == 1 && ok(st[0]) {
			return st[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %s: %+v", what, st)
		}
		select {
		case <-w.carrier.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
