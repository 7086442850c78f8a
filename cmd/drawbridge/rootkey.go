package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/enroll"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
)

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Work with the root key: certify gateways, rotate, reclaim",
		Long: `The root key certifies gateways and nothing else. It lives on the first gateway,
or in a directory of its own (init --offline-root) on a host without network.
What has to go there and back is public text.

Certify with an offline root:
  on the gateway      drawbridge root requests > requests.txt
  at the root         drawbridge root sign --root DIR requests.txt > grants.txt
  on the gateway      drawbridge root install grants.txt

Rotate the root, each step when ` + "`drawbridge trust`" + ` shows that nobody lags behind:
  drawbridge root rotate     everybody trusts a second root
  drawbridge root switch     gateways are certified by it
  drawbridge root retire     the old one is dropped`,
	}
	cmd.AddCommand(
		rootRequestsCommand(), rootSignCommand(), rootInstallCommand(),
		rotateCommand("rotate", "Make a second root and tell everybody to trust it too", rotate, nil),
		rotateCommand("switch", "Certify all gateways by the second root", switchRoots, behind),
		rotateCommand("retire", "Drop the old root", retire, laggards),
		rootPublishCommand(), rootReclaimCommand(),
	)
	return cmd
}

func rootRequestsCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "requests",
		Short: "Print what the root is to sign: waiting gateways, and this one's renewal",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := enroll.RootRequests(dir)
			if err != nil {
				return err
			}
			if text == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "Nothing waits for the root.")
				return nil
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	stateDirFlag(cmd, &dir)
	return cmd
}

func rootSignCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "sign --root DIR [FILE]",
		Short: "Grant what gateways request, with the root key of a directory",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args)
			if err != nil {
				return err
			}
			state, err := statedir.Open(dir)
			if err != nil {
				return err
			}
			for _, block := range armours(text) {
				req, err := rootca.ParseRequest(block)
				if err != nil {
					return err
				}
				var grant rootca.Grant
				err = state.Update(func() error {
					grant, err = rootca.Sign(state, req, time.Now())
					return err
				})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "Granted %s to %s.\n", grant.Block, grant.Name)
				if _, err := io.WriteString(cmd.OutOrStdout(), grant.Encode()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "root", "", "directory of the root key")
	_ = cmd.MarkFlagRequired("root") // the flag exists
	return cmd
}

func rootInstallCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "install [FILE]",
		Short: "Bring the root's grants to this gateway",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args)
			if err != nil {
				return err
			}
			for _, block := range armours(text) {
				info, err := enroll.InstallGrant(dir, block)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Installed the grant of %s to %s.\n", info.Block, info.Name)
			}
			return nil
		},
	}
	stateDirFlag(cmd, &dir)
	return cmd
}

func rootReclaimCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "reclaim GATEWAY",
		Short: "Take back the address block of a gateway that is lost for good",
		Long: `Marks the block of a lost gateway as free. It rests until every certificate that
the gateway made has ended, and is then granted to a new gateway. Revoke the
gateway first. Hosts that it certified keep their addresses.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := statedir.Open(dir)
			if err != nil {
				return err
			}
			return state.Update(func() error {
				block, err := rootca.Reclaim(state, args[0], time.Now())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Block %s of %s is reclaimed: it rests, then a new gateway may get it.\n", block, args[0])
				return err
			})
		},
	}
	stateDirFlag(cmd, &dir)
	return cmd
}

// maxInput bounds what is read of carried text.
const maxInput = 8 << 20

// readInput reads the file that is named, or standard input.
func readInput(cmd *cobra.Command, args []string) ([]byte, error) {
	in := cmd.InOrStdin()
	if len(args) > 0 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		defer f.Close()
		in = f
	} else if !piped(in) {
		return nil, usageError(errors.New("name a file, or pipe the text in"))
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("read: more than %d bytes", maxInput)
	}
	return b, nil
}

// armours splits text into its armoured blocks. Text without any is given back
// whole, for the parser to refuse with its reason.
func armours(text []byte) []string {
	var out []string
	for rest := text; ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		out, rest = append(out, string(pem.EncodeToMemory(block))), more
	}
	if len(out) == 0 {
		return []string{string(text)}
	}
	return out
}
