package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// strangersHost is where hosts come from that are not of the lab's story: a
// crowd that joins, or that attacks.
const strangersHost = "strangers"

// Addresses of strangers: on namespaces the prefix for benchmarks (RFC 2544),
// on loopback a part of 127.0.0.0/8 that nobody else in the lab uses.
var (
	strangersPrefix   = netip.MustParsePrefix("198.18.0.0/15")
	strangersLoopback = netip.MustParsePrefix("127.64.0.0/15")
	strangersRouter   = netip.MustParseAddr("192.0.2.1")
	strangersUplink   = netip.MustParseAddr("192.0.2.2")
)

// stranger is the i-th address of a prefix of at most 24 bits, each in the next
// /24: a gateway bounds what one address and one network may do, and neither
// is what a crowd is to measure.
func stranger(p netip.Prefix, i int) netip.Addr {
	networks := 1 << (24 - p.Bits())
	b := p.Masked().Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8
	n += uint32(i%networks)<<8 + uint32(1+i/networks%254)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// dialFrom opens TCP connections to one address, whichever was asked for, from
// another one; an invalid one leaves the choice to the host.
func dialFrom(from netip.Addr, to netip.AddrPort) func(context.Context, string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	return func(ctx context.Context, _ string) (net.Conn, error) { return d.DialContext(ctx, "tcp4", to.String()) }
}

// enrolment is where strangers reach a gateway's enrolment port. On loopback
// that is behind the relay, which has only one address of its own.
func (l *Lab) enrolment(gateway Node) netip.AddrPort {
	if l.opts.Mode == Loopback {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), gateway.ListenPort)
	}
	return gateway.Endpoint
}

// createToken makes a token for servers on a gateway, as an operator does.
func (l *Lab) createToken(ctx context.Context, gateway Node, site string, uses int) (string, error) {
	out, err := l.crew.run(ctx, order{host: gateway.Name, args: []string{
		"token", "create", "--state-dir", l.stateDir(gateway.Name), "--site", site, "--uses", fmt.Sprint(uses),
	}})
	if err != nil {
		return "", err
	}
	return tokenIn(out)
}

// play runs a role with its plan on a host to its end and decodes what it
// printed.
func (l *Lab) play(ctx context.Context, host, role, name string, plan any, tokens []string, outcome any) error {
	b, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("write plan of %s: %w", role, err)
	}
	file := filepath.Join(l.dir, role+"-"+name+".json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("write plan of %s: %w", role, err)
	}
	out, err := l.crew.run(ctx, order{
		host: host, args: []string{"lab", role, file}, env: []string{tokensEnv + "=" + strings.Join(tokens, " ")},
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), outcome); err != nil {
		return fmt.Errorf("read what %s printed: %w", role, err)
	}
	return nil
}
