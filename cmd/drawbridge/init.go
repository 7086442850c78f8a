package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"drawbridge/agent"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
)

// Where the state directory is, unless a flag says otherwise.
const (
	stateDirEnv     = "DRAWBRIDGE_STATE_DIR"
	defaultStateDir = "/var/lib/drawbridge"
)

// stateDirFlag adds --state-dir: flag, then environment, then default.
func stateDirFlag(cmd *cobra.Command, v *string) {
	def := defaultStateDir
	if env := os.Getenv(stateDirEnv); env != "" {
		def = env
	}
	cmd.Flags().StringVar(v, "state-dir", def, "directory of keys and certificates; also $"+stateDirEnv)
}

func initCommand() *cobra.Command {
	var o enroll.InitOptions
	var endpoints []string
	var prefix string
	cmd := &cobra.Command{
		Use:   "init --mesh NAME --site SITE",
		Short: "Make a new mesh, with this host as its first gateway",
		Long: `Makes the root of a new mesh, this host's identity as its first gateway, and the
first block of overlay addresses. It starts nothing. The root key is needed only
to bring in more gateways and, twice a year, to renew their issuing
certificates. With --offline-root it is made in a directory of its own, which
can be taken away at once: nothing of it stays in the state directory.`,
		Example: `  drawbridge init --mesh prod --site aws --endpoint 203.0.113.9
  drawbridge init --mesh prod --site aws --endpoint 203.0.113.9 --offline-root /media/usb/prod-root`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Mesh == "" || o.Site == "" {
				return usageError(errors.New("--mesh and --site are needed"))
			}
			var err error
			if o.Prefix, err = netip.ParsePrefix(prefix); err != nil {
				return usageError(fmt.Errorf("--prefix %q: want a prefix such as 10.86.0.0/16", prefix))
			}
			if o.Endpoints, err = parseEndpoints(endpoints, o.ListenPort); err != nil {
				return usageError(err)
			}
			if o.Name, err = nodeName(o.Name); err != nil {
				return usageError(err)
			}
			o.Conflict = agent.Conflict
			res, err := enroll.Init(o)
			if err != nil {
				return err
			}
			warnRepairs(cmd.ErrOrStderr(), res)
			_, err = io.WriteString(cmd.OutOrStdout(), renderInit(res, o))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Mesh, "mesh", "", "name of the mesh, a lower-case DNS label")
	f.StringVar(&o.Site, "site", "", "site of this gateway, for example aws")
	f.StringVar(&o.Name, "name", "", "name of this node (default: the host's name)")
	f.StringArrayVar(&endpoints, "endpoint", nil, "IP:PORT or IP where others can dial this host; repeatable")
	f.StringVar(&prefix, "prefix", enroll.DefaultPrefix.String(), "overlay addresses of the mesh")
	f.StringVar(&o.Domain, "domain", "", "DNS domain of the mesh (default: NAME.mesh)")
	f.Uint16Var(&o.ListenPort, "listen-port", enroll.DefaultPort, "port of WireGuard (UDP) and of joining hosts (TCP)")
	f.StringVar(&o.OfflineRoot, "offline-root", "", "empty directory for the root key, apart from the state directory (default: in the state directory)")
	stateDirFlag(cmd, &o.StateDir)
	return cmd
}

func renderInit(res enroll.Result, o enroll.InitOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Made mesh %s (%s, %s).\n", res.Mesh, res.Prefix, res.Domain)
	fmt.Fprintf(&b, "This host is %s, gateway of site %s, overlay address %s.\n", res.Name, res.Site, res.Addr)
	fmt.Fprintf(&b, "Root fingerprint: sha256:%s\n", hex.EncodeToString(res.Pin[:]))
	if o.OfflineRoot == "" {
		fmt.Fprintf(&b, "State: %s. Back it up; %s/root.key makes gateways, keep a copy offline.\n", o.StateDir, strings.TrimRight(o.StateDir, "/"))
	} else {
		fmt.Fprintf(&b, "State: %s. Back it up.\n", o.StateDir)
		fmt.Fprintf(&b, "Root key: %s. Take it away and keep two copies: without it no gateway can be added or renewed.\n", o.OfflineRoot)
	}
	addr := ""
	if len(o.Endpoints) == 0 {
		fmt.Fprintf(&b, "No --endpoint was given: other hosts are not told where to dial this one.\n")
		addr = " --addr PUBLIC_IP:" + strconv.Itoa(int(o.ListenPort))
	}
	fmt.Fprintf(&b, "\nNext:\n  allow UDP and TCP port %d to this host\n", o.ListenPort)
	fmt.Fprintf(&b, "  systemctl enable --now drawbridge      (or: drawbridge agent)\n")
	fmt.Fprintf(&b, "  drawbridge token create --site SITE%s\n", addr)
	return b.String()
}

// warnRepairs tells what was too open in the state directory.
func warnRepairs(w io.Writer, res enroll.Result) {
	for _, r := range res.Repairs {
		fmt.Fprintln(w, "drawbridge: warning:", r)
	}
}

// nodeName is the name asked for, or the host's first label in lower case.
func nodeName(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host's name is not known (%w): give one with --name", err)
	}
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	if err := pki.CheckLabel("name", label); err != nil || label == "localhost" {
		return "", fmt.Errorf("the host's name %q does not do as a name here: give one with --name", host)
	}
	return label, nil
}

// parseEndpoints reads IP:PORT, or IP alone with the listen port.
func parseEndpoints(texts []string, port uint16) ([]netip.AddrPort, error) {
	var eps []netip.AddrPort
	for _, s := range texts {
		ep, err := netip.ParseAddrPort(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--endpoint %q: want IP:PORT or IP", s)
			}
			ep = netip.AddrPortFrom(addr, port)
		}
		if ep.Port() == 0 || ep.Addr().IsUnspecified() || ep.Addr().IsMulticast() {
			return nil, fmt.Errorf("--endpoint %q: not an address that others can dial", s)
		}
		eps = append(eps, ep)
	}
	return eps, nil
}
