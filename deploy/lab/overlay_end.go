package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"

	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
	"drawbridge/tunnel/nft"
	"drawbridge/tunnel/userspace"
)

// endPlan is one end of a tunnel of ours, without an agent.
type endPlan struct {
	Backend  tunnel.Backend `json:"backend"`
	MTU      int            `json:"mtu"`
	Addr     netip.Prefix   `json:"addr"` // in the mesh prefix
	Port     uint16         `json:"port"`
	Private  []byte         `json:"private"`
	Peer     []byte         `json:"peer"` // its private key
	PeerAddr netip.Addr     `json:"peer_addr"`
	Endpoint netip.AddrPort `json:"endpoint"` // of the peer; invalid waits for it
	// Forward makes this end a gateway with its packet filter. Onto is where it
	// forwards to if there is no tunnel at all.
	Forward bool   `json:"forward"`
	Onto    string `json:"onto"`
}

// filter is what a gateway forwards by.
func (p endPlan) filter(iface string) tunnel.Filter {
	return tunnel.Filter{Interface: iface, Mesh: p.Addr.Masked(), Self: p.Addr.Addr(), Forward: true, MTU: p.MTU}
}

func (p endPlan) config() (tunnel.Config, error) {
	peer, err := tunnel.PrivateKeyOf((*[tunnel.KeyLen]byte)(p.Peer)).Public()
	if err != nil {
		return tunnel.Config{}, err
	}
	c := tunnel.Config{
		PrivateKey: tunnel.PrivateKeyOf((*[tunnel.KeyLen]byte)(p.Private)), ListenPort: p.Port, Addr: p.Addr.Addr(), Mesh: p.Addr.Masked(), MTU: p.MTU,
		Peers: []tunnel.Peer{{Key: peer, AllowedIPs: []netip.Prefix{netip.PrefixFrom(p.PeerAddr, 32)}}},
	}
	if p.Endpoint.IsValid() {
		c.Peers[0].Endpoint, c.Peers[0].Keepalive = p.Endpoint, 25e9
	}
	return c, nil
}

// ServeOverlayEnd runs one end of a tunnel of ours, configured by a file, until
// ctx ends, and prints a line when it is up. On netstack, where no other
// process reaches the overlay, it serves a track there too.
func ServeOverlayEnd(ctx context.Context, file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan of tunnel: %w", err)
	}
	var p endPlan
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read plan of tunnel: %w", err)
	}
	if p.Onto != "" {
		if err := nft.New(nft.Options{}).Apply(ctx, p.filter(p.Onto)); err != nil {
			return err
		}
		fmt.Fprintln(out, "up")
		<-ctx.Done()
		return nft.Cleanup()
	}
	c, err := p.config()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var d tunnel.Device
	switch p.Backend {
	case tunnel.Userspace:
		d = userspace.New(userspace.Options{Logger: log, Forward: p.Forward})
	case tunnel.Netstack:
		d = netstack.New(netstack.Options{Logger: log})
	default:
		return fmt.Errorf("backend %q cannot be measured alone", p.Backend)
	}
	defer func() { _ = d.Close() }()
	if err := d.Apply(ctx, c); err != nil {
		return err
	}
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if p.Forward {
		if err := nft.New(nft.Options{}).Apply(ctx, p.filter(st.Interface)); err != nil {
			return err
		}
	}
	if p.Backend != tunnel.Netstack {
		fmt.Fprintln(out, "up", st.Offload)
		<-ctx.Done()
		return nil
	}
	l, err := d.Network().Listen("tcp", netip.AddrPortFrom(c.Addr, appPort))
	if err != nil {
		return err
	}
	u, err := d.Network().ListenPacket("udp", netip.AddrPortFrom(c.Addr, sinkPort))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "up", st.Offload)
	return serveTrack(ctx, l, u)
}
