// Command drawbridge is the agent and every verb that talks to it.
//
// It promises documented exit codes (see exit.go), errors with a cause and a
// next step on standard error, and nothing but the answer on standard output.
//
// It owns nothing outside the process. It imports the house, the client of its
// API, the configuration and the rooms that make and join a mesh. It never
// decides anything: flags become options, answers become text.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks to stop; after it, a second one ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
