package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
)

// pemNotice is the armour in which a notice is carried from an offline root.
const pemNotice = "DRAWBRIDGE NOTICE"

// step is one step of a rotation; it returns the notices to tell, in order.
type step func(dir *statedir.Dir, t api.Trust, now time.Time) ([][]byte, error)

func rotate(dir *statedir.Dir, t api.Trust, now time.Time) ([][]byte, error) {
	n, err := rootca.Rotate(dir, t.CAs, t.Epoch+1, now)
	return [][]byte{n}, err
}

func switchRoots(dir *statedir.Dir, t api.Trust, now time.Time) ([][]byte, error) {
	n, err := rootca.Switch(dir, t.CAs, t.Epoch+1, now)
	return [][]byte{n}, err
}

// retire signs anew what the old root alone has said before it is dropped.
func retire(dir *statedir.Dir, t api.Trust, now time.Time) ([][]byte, error) {
	again, err := rootca.Reissue(dir, t.Signed, now)
	if err != nil {
		return nil, err
	}
	n, err := rootca.Retire(dir, t.CAs, t.Epoch+1, now)
	return append(again, n), err
}

// writeNotices keeps notices in a file, for a gateway to publish.
func writeNotices(name string, notices [][]byte) error {
	var b []byte
	for _, n := range notices {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemNotice, Bytes: n})...)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil { //nolint:gosec // public
		return fmt.Errorf("write notices: %w", err)
	}
	return nil
}

// publish has the agent tell notices, in order, and prints its last answer.
func publish(ctx context.Context, cmd *cobra.Command, notices [][]byte) error {
	var done api.Done
	for _, n := range notices {
		var err error
		if done, err = clientOf(cmd).Command(ctx, "notice", api.Command{Notice: n}, history.Person()); err != nil {
			return err
		}
	}
	return printDone(cmd, done, false)
}

func rotateCommand(verb, short string, do step, lag func(api.Trust) []string) *cobra.Command {
	var dir, root, trustFile, out string
	var force bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   verb,
		Short: short,
		Long: short + `.

With the root key on this gateway, this is one command. With an offline root it
takes --root DIR there, with what ` + "`drawbridge trust --json`" + ` printed on a gateway as
--trust FILE, and --out FILE; the file goes back to a gateway: drawbridge root publish FILE.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			trust, err := trustOf(ctx, cmd, trustFile)
			if err != nil {
				return err
			}
			if lag != nil && !force {
				if who := lag(trust); len(who) > 0 {
					return fmt.Errorf("%d nodes are not ready: %s; wait until `drawbridge trust` shows that they are, revoke those that are gone, or go on with --force", len(who), strings.Join(who, ", "))
				}
			}
			if root == "" {
				root = dir
			}
			state, err := statedir.Open(root)
			if err != nil {
				return err
			}
			var notices [][]byte
			if err := state.Update(func() error {
				notices, err = do(state, trust, time.Now())
				return err
			}); err != nil {
				return err
			}
			if out != "" {
				return writeNotices(out, notices)
			}
			return publish(ctx, cmd, notices)
		},
	}
	f := cmd.Flags()
	f.StringVar(&root, "root", "", "directory of the root key (default: the state directory)")
	f.StringVar(&trustFile, "trust", "", "what `drawbridge trust --json` printed (default: ask the agent)")
	f.StringVar(&out, "out", "", "write the notice here instead of telling the agent")
	if lag != nil {
		f.BoolVar(&force, "force", false, "go on although nodes lag behind: they will be cut off")
	}
	timeoutFlag(cmd, &timeout, 20*time.Second)
	stateDirFlag(cmd, &dir)
	return cmd
}

// behind are the nodes that do not trust the newest set of roots yet.
func behind(t api.Trust) []string {
	var who []string
	for _, c := range t.Certificates {
		if c.Epoch < t.Epoch {
			who = append(who, c.Name)
		}
	}
	return who
}

// laggards are besides the nodes whose certificate still rests on an old root.
func laggards(t api.Trust) []string {
	who := behind(t)
	for _, c := range t.Certificates {
		if len(t.Roots) > 0 && c.RootPin != t.Roots[0].Pin && c.Epoch >= t.Epoch {
			who = append(who, c.Name)
		}
	}
	return who
}

// trustOf asks the agent, or reads what it said.
func trustOf(ctx context.Context, cmd *cobra.Command, file string) (api.Trust, error) {
	if file == "" {
		return clientOf(cmd).Trust(ctx)
	}
	var t api.Trust
	b, err := readInput(cmd, []string{file})
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("read %s: %w; it wants what `drawbridge trust --json` prints", file, err)
	}
	return t, nil
}

func rootPublishCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "publish [FILE]",
		Short: "Tell the mesh a notice that an offline root signed",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args)
			if err != nil {
				return err
			}
			var notices [][]byte
			for _, armour := range armours(text) {
				block, _ := pem.Decode([]byte(armour))
				if block == nil || block.Type != pemNotice {
					return errors.New("this is no notice: it wants the file that --out wrote")
				}
				if _, err := pki.ReadNotice(block.Bytes); err != nil {
					return err
				}
				notices = append(notices, block.Bytes)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 20*time.Second)
			defer cancel()
			return publish(ctx, cmd, notices)
		},
	}
}
