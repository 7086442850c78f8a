package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"drawbridge/agent/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and show the agent's configuration"}
	cmd.AddCommand(configCheckCommand(), configShowCommand())
	return cmd
}

// checked is what `config check --json` prints.
type checked struct {
	SchemaVersion int       `json:"schema_version"`
	File          string    `json:"file"`
	OK            bool      `json:"ok"`
	Problems      []problem `json:"problems"`
}

// problem is one thing that is wrong; line and col count from 1, 0 is the file
// as a whole.
type problem struct {
	Line int    `json:"line"`
	Col  int    `json:"col"`
	Text string `json:"text"`
}

func configCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say everything that is wrong in a configuration file",
		Long: `Say everything that is wrong in a configuration file: one problem a line, as
FILE:LINE:COLUMN: text. No agent needs to run, and nothing outside the file is
looked at. The exit code is 1 when anything is wrong.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := config.Load(args[0])
			var wrong *config.Error
			if err != nil && !errors.As(err, &wrong) {
				return err
			}
			if asJSON {
				err = printChecked(cmd.OutOrStdout(), args[0], wrong)
			} else if wrong == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", args[0])
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), wrong)
			}
			if err != nil {
				return fmt.Errorf("print problems: %w", err)
			}
			if wrong != nil {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printChecked(w io.Writer, file string, wrong *config.Error) error {
	out := checked{SchemaVersion: 1, File: file, OK: wrong == nil, Problems: []problem{}}
	if wrong != nil {
		for _, p := range wrong.Problems {
			out.Problems = append(out.Problems, problem{Line: p.Line, Col: p.Col, Text: p.Text})
		}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return printRaw(w, raw)
}

// effective is what `config show --json` prints.
type effective struct {
	SchemaVersion int       `json:"schema_version"`
	Settings      []setting `json:"settings"`
}

type setting struct {
	Key     string `json:"key"`
	Value   string `json:"value"` // as YAML
	Default bool   `json:"default"`
}

func configShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show every value in force, defaults included",
		Long: `Show every value in force, defaults included, as YAML that reads as the same
configuration. Without FILE it is ` + defaultConfig + `, or the defaults when
there is no such file. Secrets have no place in a configuration, so none is shown.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultConfig
			if len(args) > 0 {
				file = args[0]
			}
			s, err := settingsOf(file, len(args) > 0)
			if err != nil {
				return err
			}
			if !asJSON {
				return s.Show(cmd.OutOrStdout())
			}
			out := effective{SchemaVersion: 1, Settings: []setting{}}
			for _, l := range s.Effective() {
				out.Settings = append(out.Settings, setting{Key: l.Key, Value: l.Value, Default: l.Default})
			}
			raw, err := json.Marshal(out)
			if err != nil {
				return fmt.Errorf("encode configuration: %w", err)
			}
			return printRaw(cmd.OutOrStdout(), raw)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
