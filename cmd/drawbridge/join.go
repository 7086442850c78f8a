package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

const (
	tokenEnv = "DRAWBRIDGE_TOKEN"
	// maxTokenFile bounds what is read of a token; one has about 250 characters.
	maxTokenFile = 8 << 10
	// skewWarning is the difference of clocks that a person should know of.
	skewWarning = 30 * time.Second
)

// The ways to join.
const (
	byToken = "token"
	byAWS   = "aws-iam"
)

// proveAWS lets AWS confirm who this host is.
var proveAWS = agent.Prove

func joinCommand() *cobra.Command {
	var o enroll.JoinOptions
	var file, role, method, pin string
	var endpoints []string
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Join this host to a mesh with a token, or by its AWS identity",
		Long: `Makes this host's keys, proves the token to a gateway that the token's pin
confirms, and keeps the certificate. It starts nothing. Running it again after an
interruption goes on where it was; on a host that has joined it changes nothing.

The token comes from --token-file, from $` + tokenEnv + `, or from standard input,
never from the command line, which every user of the host can read.

With --method aws-iam there is no secret at all: a gateway lets AWS confirm this
host's IAM role and looks it up in its rules. --pin is what "drawbridge init"
printed as the root fingerprint.

If a person must approve this host, join shows the fingerprint to compare and
waits; run again after that, it goes on with the same keys.`,
		Example: `  drawbridge join --token-file /run/secrets/drawbridge
  ssh gateway sudo drawbridge token create --site idc-seoul | sudo drawbridge join
  drawbridge join --method aws-iam --gateway gw.example.com:51820 --pin sha256:0123...`,
		Args: noTokenArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := joinWay(cmd, &o, method, file, pin)
			if err != nil {
				return err
			}
			if o.Name, err = nodeName(o.Name); err != nil {
				return usageError(err)
			}
			if o.Endpoints, err = parseEndpoints(endpoints, o.ListenPort); err != nil {
				return usageError(err)
			}
			o.Role, o.Conflict = discovery.Role(role), agent.Conflict
			o.Waiting = func(fingerprint string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "drawbridge: this host waits to be let in. On the gateway compare its fingerprint, %s:\n  drawbridge members pending\n  drawbridge members approve %s\n", fingerprint, fingerprint)
			}
			return runJoin(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "token-file", "", "file that holds the token; - is standard input")
	f.StringVar(&o.Name, "name", "", "name of this node (default: the host's name)")
	f.StringVar(&o.Site, "site", "", "refuse a token for another site")
	f.StringVar(&role, "role", "", "refuse a token for another role")
	f.StringArrayVar(&endpoints, "endpoint", nil, "IP:PORT or IP where others can dial this host; repeatable, gateways need one")
	f.Uint16Var(&o.ListenPort, "listen-port", enroll.DefaultPort, "UDP port of WireGuard")
	f.DurationVar(&o.Patience, "wait", enroll.DefaultPatience, "how long to wait for a person's approval; it may be given later as well")
	f.StringVar(&method, "method", byToken, byToken+" or "+byAWS)
	f.StringArrayVar(&o.Gateways, "gateway", nil, byAWS+": HOST:PORT of a gateway; repeatable")
	f.StringVar(&pin, "pin", "", byAWS+": fingerprint of the mesh root, sha256:HEX")
	stateDirFlag(cmd, &o.StateDir)
	return cmd
}

// joinWay reads what the host joins by.
func joinWay(cmd *cobra.Command, o *enroll.JoinOptions, method, file, pin string) error {
	switch method {
	case byToken:
		if len(o.Gateways) > 0 || pin != "" {
			return usageError(fmt.Errorf("--gateway and --pin are for --method %s: a token carries both", byAWS))
		}
	case byAWS:
		var err error
		if file != "" {
			return usageError(fmt.Errorf("--token-file is not for --method %s", byAWS))
		}
		if len(o.Gateways) == 0 || pin == "" {
			return usageError(fmt.Errorf("--method %s needs --gateway HOST:PORT and --pin sha256:HEX", byAWS))
		}
		if o.Pin, err = parsePin(pin); err != nil {
			return usageError(err)
		}
		o.Prove = proveAWS
		return nil
	default:
		return usageError(fmt.Errorf("--method %q: want %s or %s", method, byToken, byAWS))
	}
	text, err := tokenText(cmd, file)
	if err != nil {
		return err
	}
	if o.Token, err = pki.ParseToken(text); err != nil {
		if errors.Is(err, pki.ErrTokenVersion) {
			return err // it says what to do
		}
		return fmt.Errorf("%w; copy the whole line that `drawbridge token create` printed", err)
	}
	return nil
}

// parsePin reads a root's fingerprint as init prints it.
func parsePin(s string) (pin [32]byte, err error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "sha256:"))
	if err != nil || len(b) != len(pin) {
		return pin, fmt.Errorf("--pin %q: want sha256: and 64 hexadecimal digits, the root fingerprint that `drawbridge init` printed", s)
	}
	return [32]byte(b), nil
}

func noTokenArgument(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errors.New("join takes no arguments; give the token by --token-file, $" + tokenEnv + " or standard input")
	}
	return nil
}

func runJoin(cmd *cobra.Command, o enroll.JoinOptions) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res, err := enroll.Join(ctx, o)
	warnRepairs(cmd.ErrOrStderr(), res)
	if errors.Is(err, enroll.ErrAlreadyJoined) && (o.Token != nil && res.Mesh == o.Token.Mesh || o.Token == nil && res.Pin == o.Pin) {
		// As wished, so a script that runs twice is content.
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Already joined: this host is %s (%s, %s of site %s) of mesh %s. Nothing was changed, and no token was used.\n",
			res.Name, res.Addr, res.Role, res.Site, res.Mesh)
		return err
	}
	if err != nil {
		return err
	}
	if res.Skew.Abs() >= skewWarning {
		fmt.Fprintf(cmd.ErrOrStderr(), "drawbridge: warning: this host's clock and the gateway's differ by %s; set the wrong one (timedatectl set-ntp true)\n", res.Skew.Abs())
	}
	_, err = io.WriteString(cmd.OutOrStdout(), renderJoin(res, o))
	return err
}

func renderJoin(res enroll.Result, o enroll.JoinOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Joined mesh %s (%s, %s) through %s.\n", res.Mesh, res.Prefix, res.Domain, res.Gateway)
	fmt.Fprintf(&b, "This host is %s, %s of site %s, overlay address %s.\n", res.Name, res.Role, res.Site, res.Addr)
	fmt.Fprintf(&b, "State: %s. The certificate lasts until %s.\n", o.StateDir, res.NotAfter.Local().Format(time.DateTime))
	if res.Role == discovery.RoleGateway && len(o.Endpoints) == 0 {
		fmt.Fprintf(&b, "A gateway without --endpoint cannot be dialled: set endpoints in the configuration file.\n")
	}
	fmt.Fprintf(&b, "\nNext:\n  systemctl enable --now drawbridge      (or: drawbridge agent)\n  drawbridge status\n")
	return b.String()
}

// tokenText finds the token: flag, then environment, then piped input.
func tokenText(cmd *cobra.Command, file string) (string, error) {
	in := cmd.InOrStdin()
	switch {
	case file != "" && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read token: %w; name a file that this user can read with --token-file, or pipe the token in", err)
		}
		defer f.Close()
		in = f
	case file == "" && os.Getenv(tokenEnv) != "":
		return os.Getenv(tokenEnv), nil
	case file == "" && !piped(in):
		return "", usageError(errors.New("no token: give one by --token-file FILE, $" + tokenEnv + " or standard input; `drawbridge token create` on a gateway makes one"))
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w; --token-file wants a file with the token in it", err)
	}
	if len(b) > maxTokenFile {
		return "", fmt.Errorf("read token: more than %d bytes; this is not a token, copy the whole line that `drawbridge token create` printed", maxTokenFile)
	}
	return string(b), nil
}

// piped reports whether input is not a terminal (nor /dev/null).
func piped(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return true
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice == 0
}
