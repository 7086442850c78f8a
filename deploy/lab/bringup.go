package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drawbridge/agent/api"
)

// Patience of the bring-up: generous, because a busy machine is slow, and
// bounded, because a broken one must not hang.
const (
	processPatience = 20 * time.Second
	meshPatience    = 90 * time.Second
)

// bringUp starts the cloud and the servers, founds the mesh, lets everyone
// join and waits until all of it works.
func (l *Lab) bringUp(ctx context.Context) error {
	l.say("ground: %s, directory %s", l.opts.Mode, l.dir)
	if err := l.startHosts(); err != nil {
		return err
	}
	seed, err := l.waitCloud(ctx)
	if err != nil {
		return err
	}
	l.say("cloud: AWS API on %s, load balancer on %s", l.plan.AWS, l.plan.Public)
	for i, n := range l.plan.Nodes {
		if err := l.writeConfig(n, seed); err != nil {
			return err
		}
		if i == 0 {
			err = l.found(ctx, n)
		} else {
			_, err = l.admit(ctx, n)
		}
		if err != nil {
			return err
		}
	}
	if err := l.markRunning(); err != nil {
		return err
	}
	return l.waitMesh(ctx)
}

// startHosts starts the cloud and every plain server.
func (l *Lab) startHosts() error {
	cfg := cloudConfig{
		AWS: l.plan.AWS, Front: l.plan.Front, Admin: filepath.Join(l.dir, cloudFile),
		Apps: l.plan.Apps, Overlay: MeshPrefix, Weights: normalWeights, Routed: l.opts.Mode == Namespaces,
	}
	for _, n := range l.plan.Gateways() {
		cfg.Gateways = append(cfg.Gateways, cloudGateway{Name: n.Name, Addr: n.Underlay, Proxy: n.Proxy})
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("write cloud plan: %w", err)
	}
	path := filepath.Join(l.dir, "cloud.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write cloud plan: %w", err)
	}
	if _, err := l.crew.start(order{name: "cloud", host: "cloud", args: []string{"lab", "serve-cloud", path}}); err != nil {
		return err
	}
	for _, a := range l.plan.Apps {
		if err := l.startApp(a.Name, a.Listen.String()); err != nil {
			return err
		}
	}
	for _, n := range l.plan.Nodes {
		if n.Gateway {
			continue
		}
		if err := l.startApp(n.Name, n.App.String()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startApp(host, listen string) error {
	_, err := l.crew.start(order{name: "app-on-" + host, host: host, args: []string{"lab", "serve-app", host, listen}})
	return err
}

func (l *Lab) waitCloud(ctx context.Context) (cloudSeed, error) {
	var seed cloudSeed
	err := l.until(ctx, processPatience, func(ctx context.Context) (err error) {
		seed, err = l.cloud.seed(ctx)
		return err
	})
	if err != nil {
		return seed, fmt.Errorf("wait for the cloud: %w\n%s", err, logTail(filepath.Join(l.dir, logDir, "cloud.log")))
	}
	return seed, nil
}

func (l *Lab) writeConfig(n Node, seed cloudSeed) error {
	b := renderConfig(agentPlan{
		Node: n, Mode: l.opts.Mode, Socket: l.Socket(n.Name), Pace: l.opts.Pace, Cloud: seed,
		AWS: "http://" + l.plan.AWS.String(), Weight: normalWeights, NodeLife: l.opts.NodeLife, HTTPS: l.opts.Firewalled,
	})
	if err := os.WriteFile(l.configFile(n.Name), b, 0o600); err != nil {
		return fmt.Errorf("write configuration of %s: %w", n.Name, err)
	}
	return nil
}

// found makes the mesh on its first gateway.
func (l *Lab) found(ctx context.Context, n Node) error {
	_, err := l.crew.run(ctx, order{host: n.Name, args: []string{
		"init", "--state-dir", l.stateDir(n.Name), "--mesh", MeshName, "--site", n.Site, "--name", n.Name,
		"--prefix", MeshPrefix.String(), "--endpoint", n.Endpoint.String(), "--listen-port", fmt.Sprint(n.ListenPort),
	}})
	if err != nil {
		return err
	}
	if err := l.startAgent(n); err != nil {
		return err
	}
	if err := l.waitAgent(ctx, n); err != nil {
		return err
	}
	l.say("%s founded mesh %s", n.Name, MeshName)
	return nil
}

// admit lets a node join with a fresh token from the first gateway and starts
// its agent. It returns when the token was asked for.
func (l *Lab) admit(ctx context.Context, n Node) (time.Time, error) {
	founder, began := l.plan.Nodes[0], time.Now()
	args := []string{"token", "create", "--state-dir", l.stateDir(founder.Name), "--site", n.Site}
	if n.Gateway {
		args = append(args, "--role", "gateway")
	}
	out, err := l.crew.run(ctx, order{host: founder.Name, args: args})
	if err != nil {
		return began, err
	}
	token, err := tokenIn(out)
	if err != nil {
		return began, err
	}
	args = []string{"join", "--state-dir", l.stateDir(n.Name), "--name", n.Name, "--listen-port", fmt.Sprint(n.ListenPort)}
	if n.Gateway {
		args = append(args, "--endpoint", n.Endpoint.String())
	}
	if _, err := l.crew.run(ctx, order{host: n.Name, args: args, env: []string{"DRAWBRIDGE_TOKEN=" + token}}); err != nil {
		return began, err
	}
	if err := l.startAgent(n); err != nil {
		return began, err
	}
	l.say("%s joined site %s with a token", n.Name, n.Site)
	return began, nil
}

// tokenIn finds the token in what `token create` printed: the last word.
func tokenIn(out string) (string, error) {
	words := strings.Fields(out)
	if len(words) == 0 {
		return "", errors.New("create token: nothing was printed")
	}
	return words[len(words)-1], nil
}

func (l *Lab) startAgent(n Node) error {
	o := order{
		name: agentName(n.Name), host: n.Name,
		args: []string{"agent", "--config", l.configFile(n.Name), "--state-dir", l.stateDir(n.Name)},
	}
	if n.Gateway {
		o.env = cloudEnv
	}
	_, err := l.crew.start(o)
	return err
}

// waitAgent waits until an agent answers on its socket.
func (l *Lab) waitAgent(ctx context.Context, n Node) error {
	err := l.until(ctx, processPatience, func(ctx context.Context) error {
		_, err := l.Agent(n.Name).Live(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the agent of %s: %w\n%s", n.Name, err, l.agentLog(n.Name))
	}
	return nil
}

// waitMesh waits until every agent is ready, both gateways hold the machine
// room to be up, and the load balancer calls all targets healthy.
func (l *Lab) waitMesh(ctx context.Context) error {
	last := ""
	err := l.until(ctx, meshPatience, func(ctx context.Context) error {
		err := l.complete(ctx)
		if err != nil && err.Error() != last {
			last = err.Error()
			l.say("waiting: %s", last)
		}
		return err
	})
	if err != nil {
		var logs []string
		for _, n := range l.Map().Nodes {
			logs = append(logs, n.Name+":\n"+l.agentLog(n.Name))
		}
		return fmt.Errorf("wait for the mesh: %w\n%s", err, strings.Join(logs, "\n"))
	}
	l.say("mesh complete: %d agents ready, all targets healthy", len(l.Map().Nodes))
	return nil
}

func (l *Lab) agentLog(node string) string {
	return logTail(filepath.Join(l.dir, logDir, agentName(node)+".log"))
}

// complete returns what is still missing, or nil.
func (l *Lab) complete(ctx context.Context) error {
	plan := l.Map()
	servers := len(plan.Nodes) - len(plan.Gateways())
	for _, n := range plan.Nodes {
		check, err := l.Agent(n.Name).Readiness(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if !check.OK {
			return fmt.Errorf("%s is %s: %s", n.Name, check.State, strings.Join(check.Reasons, "; "))
		}
		if !n.Gateway {
			continue
		}
		st, err := l.Agent(n.Name).Status(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if err := lacking(st, servers); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	cs, err := l.cloud.state(ctx)
	if err != nil {
		return err
	}
	if cs.NextHop == "" {
		return errors.New("the VPC has no route to the mesh yet")
	}
	return nil
}

// steady is how long a site must have been up on every gateway before the lab
// begins: a gateway does not trust a silence that comes earlier after a start.
const steady = 7 * time.Second

// lacking says what a gateway still misses of the whole mesh.
func lacking(st api.Status, servers int) error {
	site, ok := siteIn(st, SiteRoom)
	switch {
	case !ok || site.Verdict != "up":
		return fmt.Errorf("site %s is not up yet", SiteRoom)
	case site.Since == nil || time.Since(*site.Since) < steady:
		return fmt.Errorf("site %s is up, but not yet for %s", SiteRoom, steady)
	case site.Proven < servers:
		return fmt.Errorf("%d of %d servers of %s answer", site.Proven, servers, SiteRoom)
	case st.Leader.ID == "":
		return errors.New("no leader yet")
	case len(st.Routes) == 0:
		return errors.New("no route yet")
	case !st.Leader.Self:
		return nil // reads AWS at leisure; the leader tells of targets and weights
	}
	for _, p := range st.Routes[0].Pools {
		want := servers
		if p.Pool == PoolCloud {
			want = len(appNames)
		}
		if p.Healthy < want {
			return fmt.Errorf("pool %s has %d of %d healthy targets", p.Pool, max(p.Healthy, 0), want)
		}
		if p.Now != p.Normal {
			return fmt.Errorf("pool %s has weight %d, normal is %d", p.Pool, p.Now, p.Normal)
		}
	}
	return nil
}

func siteIn(st api.Status, name string) (api.Site, bool) {
	for _, s := range st.Sites {
		if s.Site == name {
			return s, true
		}
	}
	return api.Site{}, false
}

// markRunning writes where everything is into the lab directory.
func (l *Lab) markRunning() error {
	m := marker{SchemaVersion: 1, Mode: l.opts.Mode, Started: l.began, Control: filepath.Join(l.dir, controlFile), Agents: map[string]string{}}
	for _, n := range l.plan.Nodes {
		m.Agents[n.Name] = l.Socket(n.Name)
	}
	return writeMarker(l.dir, m)
}

// until repeats try until it succeeds, the patience ends, or a process that
// should run has ended. It returns try's last error.
func (l *Lab) until(ctx context.Context, patience time.Duration, try func(context.Context) error) error {
	return repeat(ctx, patience, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := try(ctx)
		if err == nil {
			return true, nil
		}
		if dead := l.crew.dead(); dead != nil {
			return true, errors.Join(err, dead)
		}
		return false, err
	})
}

// repeat calls try every so often until it says done or the patience ends,
// and returns its last error.
func repeat(ctx context.Context, patience, every time.Duration, try func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		done, err := try(ctx)
		if done {
			return err
		}
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err // not the echo of our own deadline
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("gave up after %s", patience), last)
		}
	}
}
