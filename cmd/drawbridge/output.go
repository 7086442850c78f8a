package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// fetch asks the agent, decodes the answer into v, and returns it as it came.
func fetch(ctx context.Context, cmd *cobra.Command, path string, v any) ([]byte, error) {
	raw, err := clientOf(cmd).Raw(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("decode answer of agent: %w", err)
	}
	return raw, nil
}

// ask is what most verbs do: ask for path, print the answer as JSON or as the
// text that render makes of it.
func ask[T any](cmd *cobra.Command, path string, asJSON bool, timeout time.Duration, render func(T) string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	var v T
	raw, err := fetch(ctx, cmd, path, &v)
	if err != nil {
		return err
	}
	if asJSON {
		return printRaw(cmd.OutOrStdout(), raw)
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), render(v)); err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	return nil
}

// printRaw prints JSON indented, and otherwise as the agent sent it: fields
// that this binary does not know yet stay.
func printRaw(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("print json: %w", err)
	}
	b.WriteByte('\n')
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("print json: %w", err)
	}
	return nil
}
