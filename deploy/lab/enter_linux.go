package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv marks a process that Enter started.
const insideEnv = "DRAWBRIDGE_LAB_INSIDE"

// Inside reports whether this process runs in the lab's own user namespace.
func Inside() bool { return os.Getenv(insideEnv) == "1" && os.Getpid() == 1 }

// keepUserEnv marks a process that Enter started without a user namespace.
const keepUserEnv = "DRAWBRIDGE_LAB_KEEP_USER"

// Enter runs this program again with args in fresh user, network, mount and
// PID namespaces, where it is root, and waits for it. Signals are passed on;
// when either process dies, everything in the PID namespace dies with it. It
// returns the exit code. An error matching [ErrRefused] means that the kernel
// does not allow it.
//
// Who is root stays the same root if keepUser is set, and may force what a
// user namespace may not, as a daemon of the system would: large socket
// buffers above all. For others it changes nothing.
func Enter(ctx context.Context, args []string, keepUser bool) (int, error) {
	cmd, err := insideCommand(ctx, args)
	if keepUser && os.Geteuid() == 0 && err == nil {
		cmd.SysProcAttr.Cloneflags &^= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = nil, nil
		cmd.Env = append(cmd.Env, keepUserEnv+"=1")
	}
	if err != nil {
		return 1, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	// The kernel ties the death signal to the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return exitCode(err)
	}
	done := make(chan struct{})
	var relay sync.WaitGroup
	relay.Go(func() {
		for asked := false; ; asked = true {
			select {
			case s := <-signals:
				if asked {
					_ = cmd.Process.Kill() // asked twice: without manners
					continue
				}
				_ = cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	})
	err = cmd.Wait()
	close(done)
	relay.Wait()
	return exitCode(err)
}

func insideCommand(ctx context.Context, args []string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Cancel = func() error {
		_ = cmd.Process.Signal(unix.SIGTERM)
		return os.ErrProcessDone // an orderly end is success, for Wait too
	}
	cmd.Env = append(os.Environ(), insideEnv+"=1", outsideDirEnv+"="+DefaultDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		GidMappingsEnableSetgroups: false,
		Setpgid:                    true,
		Pdeathsig:                  unix.SIGKILL,
	}
	return cmd, nil
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		return 1, fmt.Errorf("%w: user namespaces: %w", ErrRefused, err)
	}
	return 1, err
}

// ProbeArgs are the arguments after which a program must call [ProbeInside]
// and exit; [CheckNamespaces] starts it so.
var ProbeArgs = []string{"lab", "probe-namespaces"}

// CheckNamespaces really makes what the lab needs, in a child: a user
// namespace, hosts, wires, filter rules and a TUN device. It returns nil or an
// error matching [ErrRefused] that says which was refused.
func CheckNamespaces(ctx context.Context) error {
	cmd, err := insideCommand(ctx, ProbeArgs)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		_, err = exitCode(err)
		return err
	}
	return fmt.Errorf("%w: %s", ErrRefused, strings.TrimPrefix(strings.TrimSpace(string(out)), "drawbridge: "))
}

// ProbeInside is what the child of [CheckNamespaces] does.
func ProbeInside() error {
	if err := SettleIn(); err != nil {
		return err
	}
	a, err := newHost("probe-a")
	if err != nil {
		return err
	}
	defer func() { _ = a.close() }()
	b, err := newHost("probe-b")
	if err != nil {
		return err
	}
	defer func() { _ = b.close() }()
	if err := a.bridge("br", netip.PrefixFrom(roomRouter, 24)); err != nil {
		return err
	}
	if err := a.wire(uplink, netip.Prefix{}, b, "eth0", netip.PrefixFrom(uplinkRoom, 24)); err != nil {
		return err
	}
	for _, step := range []func() error{
		a.forwarding,
		func() error { return a.masquerade(uplink) },
		func() error { return a.fault(uplink, 10) },
		func() error { return b.do(openTUN) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// openTUN makes a TUN device and lets it go.
func openTUN() error {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq("labprobe")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("create a TUN device: %w", err)
	}
	return nil
}

// SettleIn makes the namespaces of a fresh child usable: mounts stay private,
// and /proc shows the new PID namespace. A container that masks parts of /proc
// may refuse the latter; the lab then runs without `measure rest`.
func SettleIn() error {
	if !Inside() {
		return errors.New("not inside the lab's namespaces: this would change the host's mounts")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}
