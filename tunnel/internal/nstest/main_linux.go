package nstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside marks the process that runs in the new namespaces; its value is "yes"
// or the reason why there are none.
const inside = "DRAWBRIDGE_TEST_NAMESPACE"

// Main is the body of a TestMain: it runs the tests in a new user and network
// namespace, where this process is root, and ends the process.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	}
	_ = os.Setenv(inside, fmt.Sprintf("no user namespace: %v", err))
	os.Exit(m.Run())
}

// Need skips a test that is not in its own namespace, with the reason.
func Need(t testing.TB) {
	t.Helper()
	if why := os.Getenv(inside); why != "yes" {
		t.Skip(why)
	}
}
