package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/discovery/gossip"
	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
)

// rogue is a member's keys in other hands, with software of their own: a
// tunnel to the gateways, and whatever is written into it.
type rogue struct {
	self   discovery.Identity
	mesh   netip.Prefix
	key    ed25519.PrivateKey
	chain  [][]byte
	wg     tunnel.PrivateKey
	device *netstack.Device
	config tunnel.Config
}

// newRogue brings up a tunnel with the keys of dir. Its own overlay address is
// as given; zero: as certified.
func newRogue(t *testing.T, dir string, as netip.Addr, gateways ...*citizen) *rogue {
	t.Helper()
	d := open(t, dir)
	r := &rogue{key: must(d.IdentityKey())(t), chain: must(d.Chain())(t), wg: must(d.WireGuardKey())(t)}
	node := must(d.Node())(t)
	roots := must(pki.NewRoots(must(d.Roots())(t)...))(t)
	var err error
	if r.self, _, err = pki.Verify(r.chain, roots, node.Mesh, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.mesh = node.Prefix
	if !as.IsValid() {
		as = r.self.Addr
	}
	r.config = tunnel.Config{PrivateKey: r.wg, Addr: as, Mesh: r.mesh}
	for i, g := range gateways {
		allowed := r.mesh
		if i > 0 {
			allowed = netip.PrefixFrom(g.Self().Addr, 32)
		}
		r.config.Peers = append(r.config.Peers, tunnel.Peer{
			Key: tunnel.Key(g.Self().WireGuard), Endpoint: g.endpoint(), AllowedIPs: []netip.Prefix{allowed}, Keepalive: time.Second,
		})
	}
	r.config.Normalize()
	r.device = netstack.New(netstack.Options{})
	t.Cleanup(func() { r.device.Close() })
	if err := r.device.Apply(t.Context(), r.config); err != nil {
		t.Fatal(err)
	}
	return r
}

// connected: a gateway has completed a handshake.
func (r *rogue) connected() bool {
	st, err := r.device.Status(context.Background())
	if err != nil {
		return false
	}
	for _, p := range st.Peers {
		if !p.LastHandshake.IsZero() {
			return true
		}
	}
	return false
}

func (r *rogue) mustConnect(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "the attacker's tunnel is up", r.connected)
}

// socket is a UDP socket of the attacker in the overlay.
func (r *rogue) socket(t *testing.T, port uint16) net.PacketConn {
	t.Helper()
	c := must(r.device.Network().ListenPacket("udp", netip.AddrPortFrom(r.config.Addr, port)))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.PacketConn, to netip.Addr, port uint16, b []byte) {
	t.Helper()
	if _, err := c.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port))); err != nil {
		t.Logf("attacker: %v", err)
	}
}

// liar makes a gossip that believes everything, and says to be self. It ends
// with the test or with the returned function.
func (r *rogue) liar(t *testing.T, self discovery.Identity, seeds ...*citizen) (*gossip.Gossip, func()) {
	t.Helper()
	self.Addr = r.self.Addr // where it can listen
	own := sha256.Sum256(r.chain[0])
	roots := seeds[0].Roll().Roots()
	g, err := gossip.New(gossip.Options{
		MeshName: "test", Mesh: r.mesh, Self: self, Chain: r.chain,
		Sign: func(b []byte) []byte { return ed25519.Sign(r.key, b) },
		Verify: func(chain [][]byte) (discovery.Identity, ed25519.PublicKey, error) {
			if sha256.Sum256(chain[0]) == own {
				return self, r.key.Public().(ed25519.PublicKey), nil
			}
			who, pub, err := pki.Verify(chain, roots, "test", time.Now())
			if err != nil { // a forgery of ours: some name, and on it goes
				pub, _, _ = ed25519.GenerateKey(nil)
				who = discovery.Identity{ID: pki.NodeID(pub), Name: "forged", Role: discovery.RoleServer, Addr: r.self.Addr, NotAfter: time.Now().Add(time.Hour)}
			}
			return who, pub, nil
		},
		Network: r.device.Network(), Seq: uint64(time.Now().UnixMilli()) + 1<<30,
		Seeds: func() []netip.Addr {
			var out []netip.Addr
			for _, c := range seeds {
				out = append(out, c.Self().Addr)
			}
			return out
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seeds {
		if err := g.Introduce(must(open(t, s.dir).Chain())(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	ended := false
	stop := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Logf("attacker's gossip: %v", err)
		}
	}
	t.Cleanup(stop)
	return g, stop
}

// Raw messages, as memberlist v0.7.0 and discovery/gossip write them.

const (
	portGossip, portProbe = 7946, 7947

	rawSuspect, rawDead, rawPushPull, rawUser = 3, 5, 6, 8
	rawNotice                                 = 3 // a frame's kind
)

func rawMap(kind byte, fields ...any) []byte {
	b := []byte{kind, 0x80 | byte(len(fields)/2)}
	for _, f := range fields {
		switch v := f.(type) {
		case string:
			if len(v) < 32 {
				b = append(b, 0xa0|byte(len(v)))
			} else {
				b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v)))
			}
			b = append(b, v...)
		case uint32:
			b = binary.BigEndian.AppendUint32(append(b, 0xce), v)
		case bool:
			b = append(b, 0xc2)
		}
	}
	return b
}

// rawAccusation says suspect or dead of a node.
func rawAccusation(kind byte, incarnation uint32, of, from discovery.NodeID) []byte {
	return rawMap(kind, "Incarnation", incarnation, "Node", string(of), "From", string(from))
}

func rawPushPullHead(nodes uint32) []byte {
	return rawMap(rawPushPull, "Nodes", nodes, "UserStateLen", uint32(0), "Join", false)
}

// rawNoticeFrame is a datagram with a notice.
func rawNoticeFrame(notice []byte) []byte {
	tag := sha256.Sum256([]byte("drawbridge mesh\x00test"))
	b := append([]byte{rawUser, 1}, tag[:4]...)
	return append(append(b, rawNotice), notice...)
}

// rawPulse is a pulse with one view of a site: dark, as of now.
func rawPulse(boot, seq, heardBoot, heard uint64, site string) []byte {
	b := []byte{1, 1, 1, 0}
	for _, v := range []uint64{boot, seq, heardBoot, heard} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, 100)
	b = append(b, byte(len(site)), 2, 0, 0, 0, 1)
	return append(b, site...)
}

// resigned is a notice signed over again by another key, whoever may sign such.
// signer is the certificate that it carries now.
func resigned(notice, signer, cert []byte, key ed25519.PrivateKey, mesh string) []byte {
	text := notice[:len(notice)-ed25519.SignatureSize-len(signer)-3]
	text = append(binary.BigEndian.AppendUint16(append(bytes.Clone(text), 1), uint16(len(cert))), cert...)
	signed := append([]byte("drawbridge notice 1\x00"), byte(len(mesh)))
	signed = append(append(signed, mesh...), text...)
	return append(text, ed25519.Sign(key, signed)...)
}
