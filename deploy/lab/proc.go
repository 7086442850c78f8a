package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// stopGrace is how long a process gets between SIGTERM and SIGKILL.
const stopGrace = 5 * time.Second

// process is one child of the lab, on one host.
type process struct {
	name string // unique in the lab
	host string
	cmd  *exec.Cmd
	log  string // path of its output
	done chan struct{}
	err  error // after done

	asked atomic.Bool // the lab wanted it to end
}

// order says what to start.
type order struct {
	name, host string
	program    string // "" is drawbridge
	args       []string
	env        []string
	stdout     io.Writer // nil: the log
}

// crew keeps the children of a lab.
type crew struct {
	ground ground
	binary string
	logs   string // directory

	mu    sync.Mutex // guards procs
	procs map[string]*process
	tasks sync.WaitGroup
}

// start begins a process; its error output goes to a log of its name. A name
// may be used again once its process has ended.
func (c *crew) start(o order) (*process, error) {
	if p := c.find(o.name); p != nil && !p.ended() {
		return nil, fmt.Errorf("start %s: it is running", o.name)
	}
	path := filepath.Join(c.logs, o.name+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.name, err)
	}
	defer f.Close() // the child has its own
	cmd := c.command(o)
	cmd.Stderr = f
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	if err := c.ground.start(o.host, cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.name, err)
	}
	p := &process{name: o.name, host: o.host, cmd: cmd, log: path, done: make(chan struct{})}
	c.mu.Lock()
	if c.procs == nil {
		c.procs = map[string]*process{}
	}
	c.procs[o.name] = p
	c.mu.Unlock()
	c.tasks.Go(func() {
		p.err = cmd.Wait()
		close(p.done)
	})
	return p, nil
}

// run does one command on a host to its end and returns what it printed.
func (c *crew) run(ctx context.Context, o order) (string, error) {
	cmd := c.command(o)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := c.ground.start(o.host, cmd); err != nil {
		return "", fmt.Errorf("run drawbridge %s: %w", verbOf(o.args), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("run drawbridge %s on %s: %w: %s", verbOf(o.args), o.host, errors.Join(ctx.Err(), err), tail(errOut.String(), 12))
	}
	return out.String(), nil
}

// verbOf is a command line up to its first flag: what may be shown.
func verbOf(args []string) string {
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if i < 0 {
		i = len(args)
	}
	return strings.Join(args[:i], " ")
}

func (c *crew) command(o order) *exec.Cmd {
	// Not bound to a context: end and close stop it, with patience.
	cmd := exec.CommandContext(context.Background(), cmp.Or(o.program, c.binary), o.args...)
	cmd.Env = append(cleanEnv(), o.env...)
	cmd.Stdout = o.stdout
	// A group of its own: Ctrl-C at the terminal is for the lab, which stops
	// its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// cleanEnv is our environment without what would lead an agent out of the lab:
// credentials, profiles and proxies of whoever runs it.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		name = strings.ToUpper(name)
		return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "DRAWBRIDGE_") || strings.HasSuffix(name, "_PROXY")
	})
}

func (c *crew) find(name string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.procs[name]
}

// kill ends a process as a power cut would and waits until it is gone.
func (c *crew) kill(name string) error { return c.end(name, syscall.SIGKILL) }

// signal sends a running process a signal.
func (c *crew) signal(name string, s syscall.Signal) error {
	p := c.find(name)
	if p == nil || p.ended() {
		return fmt.Errorf("%s is not running", name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	return nil
}

func (c *crew) end(name string, s syscall.Signal) error {
	p := c.find(name)
	if p != nil {
		p.asked.Store(true)
	}
	if err := c.signal(name, s); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return nil
}

// close ends every process, politely at first, and waits for all of them.
func (c *crew) close() {
	c.mu.Lock()
	var all []*process
	for _, p := range c.procs {
		all = append(all, p)
	}
	c.mu.Unlock()
	for _, p := range all {
		if !p.ended() {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	for _, p := range all {
		select {
		case <-p.done:
			continue
		case <-grace.C:
			grace.Reset(0)
		}
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	c.tasks.Wait()
}

// dead lists processes that ended although nobody asked them to, with the
// ends of their logs.
func (c *crew) dead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.procs {
		if p.ended() && !p.asked.Load() {
			errs = append(errs, fmt.Errorf("%s has ended: %w\n%s", p.name, p.err, logTail(p.log)))
		}
	}
	return errors.Join(errs...)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// logTail is the end of a log file, indented.
func logTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "  (no log: " + err.Error() + ")"
	}
	return "  " + strings.ReplaceAll(tail(string(b), 20), "\n", "\n  ")
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
