package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"drawbridge/agent/api"
)

// Options of a lab. Mode must not be Auto: see [ChooseMode].
type Options struct {
	Mode    Mode
	Dir     string    // "" means DefaultDir
	Binary  string    // the drawbridge program; "" means this one
	Servers int       // in the machine room; 0 means 3
	Pace    Pace      // zero means DemoPace
	Out     io.Writer // progress, for people; nil discards

	NodeLife time.Duration // of the certificates that gateways give; 0: the agents' default
	// Firewalled: from the start the machine room's firewall lets nothing out
	// but TCP to port 443, where gateways listen too. Namespaces only.
	Firewalled bool
}

// Lab is a running miniature internet with its agents.
type Lab struct {
	opts    Options
	dir     string
	began   time.Time
	ground  ground
	crew    *crew
	cloud   *cloudClient
	control sync.WaitGroup
	stop    context.CancelFunc // ends the control socket
	stopped chan struct{}      // closed when somebody asked over it to stop

	mu       sync.Mutex // guards plan and stopOnce
	plan     Map
	stopOnce sync.Once
}

// Up builds the miniature internet, founds a mesh in it with real tokens, and
// returns when user requests are answered by both pools. On failure everything
// is taken down again and the error carries the ends of the agents' logs.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	l, err := newLab(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := l.bringUp(ctx); err != nil {
		err = fmt.Errorf("bring up lab: %w", err)
		if dead := l.crew.dead(); dead != nil && ctx.Err() == nil {
			err = errors.Join(err, dead)
		}
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func newLab(ctx context.Context, opts Options) (*Lab, error) {
	if opts.Dir == "" {
		opts.Dir = DefaultDir()
	}
	if opts.Servers == 0 {
		opts.Servers = 3
	}
	if opts.Pace.HoldDown == 0 {
		opts.Pace = DemoPace()
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.Binary == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program: %w", err)
		}
		opts.Binary = exe
	}
	dir, err := prepareDir(ctx, opts.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, dir: dir, began: time.Now(), stopped: make(chan struct{})}
	l.ground, l.plan, err = stand(ctx, opts.Mode, opts.Servers)
	if err != nil {
		return nil, fmt.Errorf("make ground: %w", err)
	}
	if opts.Firewalled {
		if err := l.Firewall(true); err != nil {
			return nil, errors.Join(err, l.ground.close())
		}
	}
	l.crew = &crew{ground: l.ground, binary: opts.Binary, logs: filepath.Join(dir, logDir)}
	l.cloud = newCloudClient(filepath.Join(dir, cloudFile))
	if err := l.serveControl(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends every process and takes the internet down. The directory stays,
// with the logs.
func (l *Lab) Close() error {
	if l.stop != nil {
		l.stop()
	}
	l.control.Wait()
	l.crew.close()
	return l.ground.close()
}

// Dir is the lab directory.
func (l *Lab) Dir() string { return l.dir }

// Mode is the ground that the lab stands on.
func (l *Lab) Mode() Mode { return l.opts.Mode }

// Map is the present address plan.
func (l *Lab) Map() Map {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plan
}

// Stopped is closed when somebody asked over the control socket to stop.
func (l *Lab) Stopped() <-chan struct{} { return l.stopped }

// Cut takes the site's uplink away, in both directions and without a word.
func (l *Lab) Cut(site string) error { return l.ground.fault(site, 100) }

// Heal gives the uplink back, whole.
func (l *Lab) Heal(site string) error { return l.ground.fault(site, 0) }

// Loss drops percent of the packets on the uplink, in each direction.
func (l *Lab) Loss(site string, percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("loss of %d %%: want 0 to 100", percent)
	}
	return l.ground.fault(site, percent)
}

// Firewall has the machine room's firewall let nothing out but TCP to port 443,
// or everything again.
func (l *Lab) Firewall(on bool) error { return l.ground.firewall(on) }

// Kill ends a node's agent as a power cut would (SIGKILL).
func (l *Lab) Kill(node string) error { return l.crew.kill(agentName(node)) }

// Pause stops a node's agent in its tracks (SIGSTOP); Resume lets it go on.
func (l *Lab) Pause(node string) error { return l.crew.signal(agentName(node), syscall.SIGSTOP) }

// Resume lets a paused agent go on.
func (l *Lab) Resume(node string) error { return l.crew.signal(agentName(node), syscall.SIGCONT) }

// Start starts a node's agent again.
func (l *Lab) Start(node string) error {
	n, ok := l.Map().Node(node)
	if !ok {
		return fmt.Errorf("no node %q in the lab", node)
	}
	return l.startAgent(n)
}

// Agent is the client of a node's agent.
func (l *Lab) Agent(node string) *api.Client { return api.NewClient(l.Socket(node)) }

// Socket is where a node's agent answers.
func (l *Lab) Socket(node string) string { return filepath.Join(l.dir, node, agentSocket) }

func (l *Lab) stateDir(node string) string { return filepath.Join(l.dir, node) }

func (l *Lab) configFile(node string) string { return filepath.Join(l.dir, node+".yaml") }

// agentName is the name of an agent among the lab's processes.
func agentName(node string) string { return "agent-" + node }

// say prints one line of progress with the time since the beginning.
func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.opts.Out, "%6.1f s  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}
