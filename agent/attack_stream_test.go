package agent_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/enroll"
	"drawbridge/agent/statedir"
)

// TestAttackStream opens streams to a gateway's port: who is no member is
// refused, and a member that is put out loses the stream that it has within a
// second, and gets no other.
func TestAttackStream(t *testing.T) {
	t.Parallel()
	w := newTown(t, 1, 1, nil)
	gw, server := w.gateways[0], w.servers[0]
	to := gw.endpoint().String()

	if _, err := openStream(t, to, nil); err == nil {
		t.Error("a stranger has a stream")
	}
	other := newTown(t, 1, 1, nil)
	if _, err := openStream(t, to, certificateOf(t, other.servers[0])); err == nil {
		t.Error("a member of another mesh has a stream")
	}
	cert := certificateOf(t, server)
	c, err := openStream(t, to, cert)
	if err != nil {
		t.Fatalf("the member: %v", err)
	}
	gw.until(t, "a stream", func(st api.Status) bool { return st.Counters["stream.connects"] == 1 })
	gw.command(t, "revoke", api.Command{Node: server.name})
	began := time.Now()
	c.SetReadDeadline(began.Add(5 * time.Second))
	for err == nil {
		_, err = c.Read(make([]byte, 64)) // signs of life, until the end
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("the stream of a revoked node ended after %s with %v", time.Since(began), err)
	}
	if _, err := openStream(t, to, cert); err == nil {
		t.Error("a revoked node has a stream again")
	}
}

func certificateOf(t *testing.T, c *citizen) *tls.Certificate {
	t.Helper()
	dir, err := statedir.Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.IdentityKey()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

// openStream returns when the gateway has let the stream in.
func openStream(t *testing.T, to string, cert *tls.Certificate) (net.Conn, error) {
	t.Helper()
	conf := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{enroll.StreamALPN}, InsecureSkipVerify: true}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", to, conf)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 2)); err != nil { // the first sign of life
		return nil, err
	}
	c.SetReadDeadline(time.Time{})
	return c, nil
}
