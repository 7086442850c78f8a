package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"drawbridge/agent"
	"drawbridge/agent/config"
)

// defaultConfig is read when it exists and --config does not say otherwise.
const defaultConfig = "/etc/drawbridge/config.yaml"

func agentCommand() *cobra.Command {
	var file, dir string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host",
		Long: `Runs the agent in the foreground until SIGTERM or SIGINT. The host must belong
to a mesh already: see init and join. Without a configuration file the defaults
hold, and the host is a member that serves nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := settingsOf(file, cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("socket") || os.Getenv(socketEnv) != "" {
				settings.Socket = socketOf(cmd)
			}
			a, err := agent.New(agent.Options{
				Settings: settings, StateDir: dir, Version: buildVersion(), Logger: logger(cmd.ErrOrStderr(), settings.Log),
			})
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", defaultConfig, "configuration file")
	stateDirFlag(cmd, &dir)
	return cmd
}

// settingsOf loads the configuration; a missing file counts only when it was
// asked for.
func settingsOf(file string, asked bool) (config.Settings, error) {
	s, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return config.Default(), nil
	}
	return s, err
}

// logger writes to w as configured.
func logger(w io.Writer, c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
