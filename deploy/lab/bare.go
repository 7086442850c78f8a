package lab

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// The bare tunnel stands beside the agents' on the same two hosts.
const (
	bareInterface = "wgbare0"
	barePort      = 51999
	// bareMTU is what WireGuard takes by custom: 1500 less 80 for its own
	// headers over IPv6 (wg-quick(8)).
	bareMTU = 1420
)

var (
	bareGateway = netip.MustParsePrefix("10.99.0.1/24")
	bareServer  = netip.MustParsePrefix("10.99.0.2/24")
)

// barePlan is one end of a bare tunnel.
type barePlan struct {
	Interface string         `json:"interface"`
	MTU       int            `json:"mtu"`
	Addr      netip.Prefix   `json:"addr"`
	Port      uint16         `json:"port"`
	Private   string         `json:"private"` // hex
	Peer      string         `json:"peer"`    // hex, its public key
	PeerAddr  netip.Addr     `json:"peer_addr"`
	Endpoint  netip.AddrPort `json:"endpoint"` // of the peer; invalid waits for it
}

// uapi is the configuration in the text of WireGuard's cross-platform
// interface (wireguard.com/xplatform). The end that knows the other's endpoint
// keeps the NAT open, which also makes it begin.
func (p barePlan) uapi() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=%s/32\n", p.Private, p.Port, p.Peer, p.PeerAddr)
	if p.Endpoint.IsValid() {
		fmt.Fprintf(&b, "endpoint=%s\npersistent_keepalive_interval=25\n", p.Endpoint)
	}
	return b.String()
}

// barePlans are both ends: the server dials out to the gateway, as agents do.
func barePlans(mtu int, gateway netip.Addr) (gw, server barePlan, err error) {
	gwKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return gw, server, fmt.Errorf("make key: %w", err)
	}
	serverKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return gw, server, fmt.Errorf("make key: %w", err)
	}
	gw = barePlan{
		Interface: bareInterface, MTU: mtu, Addr: bareGateway, Port: barePort,
		Private: hex.EncodeToString(gwKey.Bytes()), Peer: hex.EncodeToString(serverKey.PublicKey().Bytes()),
		PeerAddr: bareServer.Addr(),
	}
	server = gw
	server.Addr, server.PeerAddr = bareServer, bareGateway.Addr()
	server.Private, server.Peer = hex.EncodeToString(serverKey.Bytes()), hex.EncodeToString(gwKey.PublicKey().Bytes())
	server.Endpoint = netip.AddrPortFrom(gateway, barePort)
	return gw, server, nil
}

// ServeBareWireGuard runs wireguard-go as it comes, configured by a file,
// until ctx ends. It prints a line when it is up.
func ServeBareWireGuard(ctx context.Context, file string, out io.Writer) (err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read bare plan: %w", err)
	}
	var p barePlan
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read bare plan: %w", err)
	}
	t, err := tun.CreateTUN(p.Interface, p.MTU)
	if err != nil {
		return fmt.Errorf("make interface %s: %w", p.Interface, err)
	}
	dev := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer dev.Close() // the TUN with it
	if err := dev.IpcSet(p.uapi()); err != nil {
		return fmt.Errorf("configure wireguard: %w", err)
	}
	if err := addressLink(p.Interface, p.Addr); err != nil {
		return err
	}
	if err := dev.Up(); err != nil {
		return fmt.Errorf("bring up wireguard: %w", err)
	}
	fmt.Fprintln(out, "up")
	select {
	case <-ctx.Done():
		return nil
	case <-dev.Wait():
		return errors.New("wireguard has ended by itself")
	}
}
