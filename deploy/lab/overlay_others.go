package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// PeersDir is where `make peers` leaves the programs of other overlays, beside
// the drawbridge that measures them.
const PeersDir = "peers"

// peerProgram is the path of another overlay's program; "" when it is not built.
func (l *Lab) peerProgram(name string) string {
	for _, dir := range []string{filepath.Join(filepath.Dir(l.opts.Binary), PeersDir), os.Getenv("DRAWBRIDGE_PEERS")} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); dir != "" && err == nil && !st.IsDir() {
			return p
		}
	}
	return ""
}

// others are the overlays of others that are built, and why the rest is not
// here.
func (l *Lab) others() (found []tunnelKind, absent []string) {
	if l.peerProgram("tailscaled") != "" && l.peerProgram("tailscale") != "" && l.peerProgram("tailscale-control") != "" {
		found = append(found, tunnelKind{"tailscaled " + l.versionOf("tailscale", "version"), l.raiseTailscale})
	} else {
		absent = append(absent, "tailscaled: not built; make peers builds it")
	}
	if l.peerProgram("nebula") == "" || l.peerProgram("nebula-cert") == "" {
		return found, append(absent, "nebula: not built; make peers builds it")
	}
	version := strings.TrimPrefix(l.versionOf("nebula", "-version"), "Version: ")
	name := "nebula " + version
	found = append(found, tunnelKind{name + " without offloads", func(ctx context.Context) (raised, error) { return l.raiseNebula(ctx, false) }})
	if olderNebula(version) {
		return found, append(absent, "nebula with offloads: needs 1.12, this one is "+version)
	}
	return append(found, tunnelKind{name + " with offloads", func(ctx context.Context) (raised, error) { return l.raiseNebula(ctx, true) }}), absent
}

// olderNebula tells versions before 1.12, which know no offloads.
func olderNebula(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false // one that somebody built
	}
	return major < 1 || major == 1 && minor < 12
}

// versionOf is the first line of what a program says of itself.
func (l *Lab) versionOf(name string, arg string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, l.peerProgram(name), arg).Output()
	if err != nil {
		return "of unknown version"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	line, _, _ = strings.Cut(line, "-") // what the builder adds
	return line
}

// raiseTailscale joins two tailscaleds by Tailscale's own test control server
// on the left. Nothing leaves the cable.
func (l *Lab) raiseTailscale(ctx context.Context) (a raised, err error) {
	const control = "tailscale-control"
	at := netip.AddrPortFrom(leftUnderlay, 9911).String()
	if _, err := l.crew.start(order{name: control, host: cableLeft, program: l.peerProgram(control), args: []string{at}}); err != nil {
		return a, err
	}
	a.others = []string{control}
	for i, host := range []string{cableLeft, cableRight} {
		name := "tailscaled-" + host
		dir := filepath.Join(l.dir, name)
		if err := os.RemoveAll(dir); err != nil {
			return a, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return a, err
		}
		socket := filepath.Join(dir, "s")
		_, err := l.crew.start(order{
			name: name, host: host, program: l.peerProgram("tailscaled"),
			args: []string{"--tun=tailscale0", "--state=mem:", "--statedir=" + dir, "--socket=" + socket, fmt.Sprintf("--port=%d", barePort+i)},
			env:  []string{"HOME=" + dir, fmt.Sprintf("TS_DEBUG_MTU=%d", overlayMTU), "TS_NO_LOGS_NO_SUPPORT=true"},
		})
		if err != nil {
			return a, err
		}
		a.daemons = append(a.daemons, name)
		cli := order{host: host, program: l.peerProgram("tailscale"), env: []string{"HOME=" + dir}}
		err = l.until(ctx, processPatience, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			up := cli
			up.args = []string{"--socket=" + socket, "up", "--login-server=http://" + at, "--netfilter-mode=off", "--accept-dns=false", "--hostname=" + host}
			_, err := l.crew.run(ctx, up)
			return err
		})
		if err != nil {
			return a, fmt.Errorf("join %s to its control: %w", name, err)
		}
		ip := cli
		ip.args = []string{"--socket=" + socket, "ip", "-4"}
		out, err := l.crew.run(ctx, ip)
		if err != nil {
			return a, err
		}
		if a.addr, err = netip.ParseAddr(strings.TrimSpace(out)); err != nil {
			return a, fmt.Errorf("address of %s: %w", name, err)
		}
	}
	return a, nil
}

// Addresses of nebula's ends.
var (
	nebulaLeft  = netip.MustParsePrefix("10.97.0.1/24")
	nebulaRight = netip.MustParsePrefix("10.97.0.2/24")
)

func (l *Lab) raiseNebula(ctx context.Context, offloads bool) (a raised, err error) {
	dir := filepath.Join(l.dir, "nebula")
	if err := os.RemoveAll(dir); err != nil {
		return a, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return a, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	cert := func(args ...string) error {
		_, err := l.crew.run(ctx, order{host: cableLeft, program: l.peerProgram("nebula-cert"), args: args})
		return err
	}
	if err := cert("ca", "-name", "lab", "-out-crt", in("ca.crt"), "-out-key", in("ca.key")); err != nil {
		return a, err
	}
	a.addr = nebulaRight.Addr()
	for _, end := range []struct {
		host string
		addr netip.Prefix
	}{{cableLeft, nebulaLeft}, {cableRight, nebulaRight}} {
		err := cert("sign", "-name", end.host, "-ip", end.addr.String(), "-ca-crt", in("ca.crt"), "-ca-key", in("ca.key"),
			"-out-crt", in(end.host+".crt"), "-out-key", in(end.host+".key"))
		if err != nil {
			return a, err
		}
		file := in(end.host + ".yaml")
		if err := os.WriteFile(file, []byte(nebulaConfig(dir, end.host, offloads)), 0o600); err != nil {
			return a, err
		}
		name := "nebula-" + end.host
		if _, err := l.crew.start(order{name: name, host: end.host, program: l.peerProgram("nebula"), args: []string{"-config", file}}); err != nil {
			return a, err
		}
		a.daemons = append(a.daemons, name)
	}
	return a, nil
}

// nebulaConfig is one end's; all that is not said is as nebula has it.
func nebulaConfig(dir, host string, offloads bool) string {
	return fmt.Sprintf(`pki: {ca: %[1]s/ca.crt, cert: %[1]s/%[2]s.crt, key: %[1]s/%[2]s.key}
static_host_map: {"%[3]s": ["%[4]s:%[5]d"]}
lighthouse: {am_lighthouse: %[6]t, hosts: [%[7]s]}
listen: {host: 0.0.0.0, port: %[5]d, udp_offloads: %[8]t}
tun: {dev: nebula0, mtu: %[9]d, use_offloads: %[8]t}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
`, dir, host, nebulaLeft.Addr(), leftUnderlay, barePort, host == cableLeft, map[bool]string{false: `"` + nebulaLeft.Addr().String() + `"`}[host == cableLeft], offloads, overlayMTU)
}
