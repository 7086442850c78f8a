package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/deploy/lab"
)

// labFlags are common to the verbs that build a lab.
type labFlags struct {
	mode string
	dir  string
	json bool

	keepUser bool // see lab.Enter
}

func (f *labFlags) add(cmd *cobra.Command, json bool) {
	cmd.Flags().StringVar(&f.mode, "mode", string(lab.Auto), "ground: auto, namespaces or loopback")
	dirFlag(cmd, &f.dir)
	if json {
		cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON; progress goes to standard error")
	}
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", lab.DefaultDir(), "lab directory")
}

func labCommand() *cobra.Command {
	var (
		f    labFlags
		keep bool
	)
	cmd := &cobra.Command{
		Use:   "lab",
		Args:  noSuchVerb,
		Short: "A miniature internet on this machine, with real agents",
		Long: `A miniature internet on this machine: a VPC with two gateways and a load
balancer, a machine room of three GPU servers behind a NAT, and a user who never
stops asking. Every agent is a process of this binary that joined with a token.

Where the kernel allows it, hosts are network namespaces with real packets; else
the same agents run on 127.0.0.1 behind a relay. No privilege is needed, and
nothing of this machine's own network is touched.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !keep {
				return cmd.Help()
			}
			return labUp(cmd, f)
		},
	}
	f.add(cmd, false)
	cmd.Flags().BoolVar(&keep, "keep", false, "build the lab and leave it running until Ctrl-C, as \"lab up\" does")
	cmd.AddCommand(labDemoCommand(), labUpCommand(), labMeasureCommand())
	for _, v := range labVerbs {
		cmd.AddCommand(labVerbCommand(v.verb, v.args, v.short))
	}
	cmd.AddCommand(labRoles()...)
	return cmd
}

// labStand settles the ground. entered means that all was done, with the given
// exit code, by the same command line inside namespaces.
func labStand(cmd *cobra.Command, f labFlags, progress io.Writer) (opts lab.Options, entered bool, err error) {
	want, err := lab.ParseMode(f.mode)
	if err != nil {
		return opts, false, usageError(err)
	}
	mode, why, err := lab.ChooseMode(cmd.Context(), want)
	if err != nil {
		return opts, false, err
	}
	if why != "" {
		fmt.Fprintf(progress, "namespaces are not to be had here, so this is the loopback ground: %s\n", why)
	}
	if mode == lab.Namespaces && !lab.Inside() {
		code, err := lab.Enter(cmd.Context(), os.Args[1:], f.keepUser)
		if err == nil && code != 0 {
			err = &exitError{code: code}
		}
		return opts, true, err
	}
	if mode == lab.Namespaces {
		if err := lab.SettleIn(); err != nil {
			return opts, false, err
		}
	}
	return lab.Options{Mode: mode, Dir: f.dir, Out: progress}, false, nil
}

func labDemoCommand() *cobra.Command {
	var (
		f    labFlags
		keep bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "A machine room goes dark and comes back while a user keeps asking",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			progress := labProgress(cmd, f)
			opts, entered, err := labStand(cmd, f, progress)
			if entered || err != nil {
				return err
			}
			var hold func(context.Context, *lab.Lab)
			if keep {
				hold = func(ctx context.Context, l *lab.Lab) { labHold(ctx, l, progress) }
			}
			t, err := lab.Demo(cmd.Context(), opts, hold)
			if f.json && !t.Cut.IsZero() {
				err = errors.Join(err, printValue(cmd.OutOrStdout(), t))
			}
			if err == nil {
				fmt.Fprintln(progress, "every promise held")
			}
			return err
		},
	}
	f.add(cmd, true)
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the lab running afterwards, until Ctrl-C")
	return cmd
}

func labUpCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build the lab and leave it running until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return labUp(cmd, f) },
	}
	f.add(cmd, false)
	return cmd
}

// labUp builds a lab and keeps it until somebody ends it.
func labUp(cmd *cobra.Command, f labFlags) error {
	progress := labProgress(cmd, f)
	opts, entered, err := labStand(cmd, f, progress)
	if entered || err != nil {
		return err
	}
	l, err := lab.Up(cmd.Context(), opts)
	if err != nil {
		return err
	}
	labHold(cmd.Context(), l, progress)
	return l.Close()
}

func labProgress(cmd *cobra.Command, f labFlags) io.Writer {
	if f.json {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

// labHold says how to use a running lab and waits until somebody ends it.
func labHold(ctx context.Context, l *lab.Lab, out io.Writer) {
	fmt.Fprintf(out, "\nThe lab is running. From another terminal:\n\n")
	for _, n := range l.Map().Nodes {
		fmt.Fprintf(out, "  drawbridge status --socket %s\n", l.Socket(n.Name))
	}
	gw := l.Socket(l.Map().Nodes[0].Name)
	flag := ""
	if l.Dir() != lab.DefaultDir() {
		flag = " --dir " + l.Dir()
	}
	fmt.Fprintf(out, `
  drawbridge why %[2]s --socket %[1]s
  drawbridge plan --socket %[1]s

  drawbridge lab cut %[2]s%[3]s          the machine room goes dark
  drawbridge lab heal %[2]s%[3]s         and comes back
  drawbridge lab loss %[2]s 10%[3]s      loses one packet in ten, each way
  drawbridge lab kill gw-a%[3]s      an agent dies; start gw-a brings it back

Logs are in %[4]s/logs. Ctrl-C or "drawbridge lab stop%[3]s" ends it.
`, gw, lab.SiteRoom, flag, l.Dir())
	select {
	case <-ctx.Done():
	case <-l.Stopped():
	}
}

func labMeasureCommand() *cobra.Command {
	var (
		f labFlags
		m lab.Measure
	)
	cmd := &cobra.Command{
		Use:       "measure " + strings.Join(lab.Measures(), "|") + "|all",
		Short:     "Measure what this machine makes of the promises",
		ValidArgs: append(lab.Measures(), "all"),
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: `Measure what this machine makes of the promises, and print the median and the
worst of each figure with the command that repeats them.

  blackout      the machine room's uplink is cut, on a fresh mesh each run
  gateway-kill  kill -9 of the gateway that carries the route, under load
  join          from asking for a token to the first overlay packet
  loss          verdicts while --pct of all packets are lost for --for
  revoke        from revoking a server on one gateway until nobody knows it
  joins         how many hosts a second join through one gateway for --for, by
                --joiners at once, from as many networks
  flood         --connections hostile ones to a gateway's enrolment port in --for
  rest          what agents use while nobody asks, watched for --for
  throughput    one TCP stream through two agents against bare wireguard-go on
                the same hosts and path, in turns (namespaces only)
  overlay       one tunnel against others on two hosts with a cable between: ours
                on TUN and on netstack, bare wireguard-go, and what make peers
                has built (namespaces only)
  paths         the network changes under the mesh (NATs, addresses, gateways, LANs):
                how long until pings pass again, and how many are lost
  forward       a gateway's forwarding against haproxy at the same spot, before
                a plain wire and before a tunnel (namespaces only)
  peers         what --count idle peers cost, against bare wireguard-go
                (namespaces only)
  all           each of them, with its own defaults`,
		RunE: func(cmd *cobra.Command, args []string) error {
			progress := cmd.ErrOrStderr()
			f.keepUser = lab.MeasuresKernel(args[0])
			opts, entered, err := labStand(cmd, f, progress)
			if entered || err != nil {
				return err
			}
			m.Command = append([]string{"drawbridge"}, os.Args[1:]...)
			names, all := args, args[0] == "all"
			if all {
				names = lab.Measures()
			}
			for _, name := range names {
				r, err := lab.RunMeasure(cmd.Context(), name, opts, labDefaults(cmd, name, m))
				if all && errors.Is(err, lab.ErrNeedsNamespaces) {
					err = nil // the report says so
				}
				if err := labReport(cmd, r, err, f.json); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd, true)
	cmd.Flags().IntVar(&m.Runs, "runs", 0, "how often (default: blackout 20, gateway-kill 10, join 10, revoke 10, the others 5)")
	cmd.Flags().IntVar(&m.Percent, "pct", 10, "packets lost each way, percent (loss)")
	cmd.Flags().DurationVar(&m.For, "for", 0, "how long (default: loss 10m, rest 1m, joins 20s, flood 20s)")
	cmd.Flags().IntVar(&m.Joiners, "joiners", 8, "how many hosts join at once (joins)")
	cmd.Flags().IntVar(&m.Count, "count", 1000, "how many peers (peers)")
	cmd.Flags().StringSliceVar(&m.Only, "only", nil, "tunnels or changes whose names hold one of these words (overlay, paths; default: all)")
	cmd.Flags().IntVar(&m.Connections, "connections", 10_000, "how many hostile connections (flood)")
	return cmd
}

// labDefaults fills what the command line left open.
func labDefaults(cmd *cobra.Command, name string, m lab.Measure) lab.Measure {
	if !cmd.Flags().Changed("runs") {
		m.Runs = map[string]int{"blackout": 20, "gateway-kill": 10, "join": 10, "revoke": 10, "throughput": 5, "overlay": 5, "forward": 5, "peers": 5, "paths": 5}[name]
	}
	if !cmd.Flags().Changed("for") {
		m.For = map[string]time.Duration{"loss": 10 * time.Minute, "rest": time.Minute, "joins": 20 * time.Second, "flood": 20 * time.Second}[name]
	}
	return m
}

// labReport prints a report, if there is one, and says what went wrong.
func labReport(cmd *cobra.Command, r *lab.Report, err error, asJSON bool) error {
	if r == nil {
		return err
	}
	write := r.WriteText
	if asJSON {
		write = r.WriteJSON
	}
	err = errors.Join(err, write(cmd.OutOrStdout()))
	if err == nil && len(r.Failures) > 0 {
		err = fmt.Errorf("%s: %d promises broken", r.Measure, len(r.Failures))
	}
	return err
}

// labVerbs are what a running lab can be told.
var labVerbs = []struct{ verb, args, short string }{
	{lab.VerbCut, "SITE", "Take a site's uplink away"},
	{lab.VerbHeal, "SITE", "Give a site's uplink back, whole"},
	{lab.VerbLoss, "SITE PERCENT", "Lose a share of packets on a site's uplink, each way"},
	{lab.VerbKill, "NODE", "End a node's agent as a power cut would"},
	{lab.VerbStart, "NODE", "Start a node's agent again"},
	{lab.VerbPause, "NODE", "Stop a node's agent in its tracks"},
	{lab.VerbResume, "NODE", "Let a paused agent go on"},
	{lab.VerbStop, "", "End the running lab"},
}

func labVerbCommand(verb, args, short string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   strings.TrimSpace(verb + " " + args),
		Short: short,
		Args:  cobra.ExactArgs(len(strings.Fields(args))),
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.Tell(cmd.Context(), dir, verb, args...)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

// labRoles are the hosts of the lab that run no agent; the lab starts them.
func labRoles() []*cobra.Command {
	roles := []*cobra.Command{
		{
			Use: "probe-namespaces", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return lab.ProbeInside() },
		},
		{
			Use: "serve-cloud FILE", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.ServeCloud(cmd.Context(), args[0], cmd.ErrOrStderr())
			},
		},
		{
			Use: "serve-app NAME ADDR:PORT", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddrPort(args[1])
				if err != nil {
					return usageError(err)
				}
				return lab.ServeApp(cmd.Context(), args[0], addr)
			},
		},
		{
			Use: "serve-user URL RATE", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				rate, err := strconv.Atoi(args[1])
				if err != nil {
					return usageError(err)
				}
				return lab.ServeUser(cmd.Context(), args[0], rate, cmd.OutOrStdout())
			},
		},
		{
			Use: "join FILE", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.Join(cmd.Context(), args[0], cmd.OutOrStdout())
			},
		},
		{
			Use: "flood FILE", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.Flood(cmd.Context(), args[0], cmd.OutOrStdout())
			},
		},
		{
			Use: "bare-wireguard FILE", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.ServeBareWireGuard(cmd.Context(), args[0], cmd.OutOrStdout())
			},
		},
		{
			Use: "overlay-end FILE", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.ServeOverlayEnd(cmd.Context(), args[0], cmd.OutOrStdout())
			},
		},
		{
			Use: "serve-track ADDR:PORT", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddrPort(args[0])
				if err != nil {
					return usageError(err)
				}
				return lab.ServeTrack(cmd.Context(), addr)
			},
		},
		{
			Use: "crowd KIND COUNT", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				count, err := strconv.Atoi(args[1])
				if err != nil {
					return usageError(err)
				}
				return lab.ServeCrowd(cmd.Context(), args[0], count, cmd.OutOrStdout())
			},
		},
		{
			Use: "serve-answers ADDR:PORT", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddrPort(args[0])
				if err != nil {
					return usageError(err)
				}
				return lab.ServeAnswers(cmd.Context(), addr)
			},
		},
		{
			Use: "ask ADDR:PORT CLIENTS FOR FRESH", Args: cobra.ExactArgs(4),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddrPort(args[0])
				clients, err1 := strconv.Atoi(args[1])
				d, err2 := time.ParseDuration(args[2])
				fresh, err3 := strconv.ParseBool(args[3])
				if err := errors.Join(err, err1, err2, err3); err != nil {
					return usageError(err)
				}
				return lab.Ask(cmd.Context(), addr, clients, d, fresh, cmd.OutOrStdout())
			},
		},
		{
			Use: "fetch URL", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return lab.Fetch(cmd.Context(), args[0], cmd.OutOrStdout())
			},
		},
		{
			Use: "ping ADDR EVERY FOR", Args: cobra.ExactArgs(3),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddr(args[0])
				every, err1 := time.ParseDuration(args[1])
				d, err2 := time.ParseDuration(args[2])
				if err := errors.Join(err, err1, err2); err != nil {
					return usageError(err)
				}
				return lab.Ping(cmd.Context(), addr, every, d, cmd.OutOrStdout())
			},
		},
		{
			Use: "pour ADDR:PORT SIZE FOR BURST EVERY", Args: cobra.ExactArgs(5),
			RunE: func(cmd *cobra.Command, args []string) error {
				addr, err := netip.ParseAddrPort(args[0])
				size, err1 := strconv.Atoi(args[1])
				d, err2 := time.ParseDuration(args[2])
				burst, err3 := strconv.Atoi(args[3])
				every, err4 := time.ParseDuration(args[4])
				if err := errors.Join(err, err1, err2, err3, err4); err != nil {
					return usageError(err)
				}
				return lab.Pour(cmd.Context(), addr, size, d, burst, every, cmd.OutOrStdout())
			},
		},
		{
			Use: "draw-stream URL WARMUP COUNT", Args: cobra.ExactArgs(3),
			RunE: func(cmd *cobra.Command, args []string) error {
				warmUp, err := time.ParseDuration(args[1])
				if err != nil {
					return usageError(err)
				}
				count, err := time.ParseDuration(args[2])
				if err != nil {
					return usageError(err)
				}
				return lab.DrawStream(cmd.Context(), args[0], warmUp, count, cmd.OutOrStdout())
			},
		},
	}
	for _, r := range roles {
		r.Hidden, r.Short = true, "A host of the lab"
	}
	return roles
}
