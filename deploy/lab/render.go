package lab

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// AWS credentials of the lab: the fake checks the form of a signature, not its
// secret.
var cloudEnv = []string{"AWS_ACCESS_KEY_ID=AKIDLAB", "AWS_SECRET_ACCESS_KEY=lab", "AWS_EC2_METADATA_DISABLED=true"}

// agentPlan is everything that the configuration of one agent is made from.
type agentPlan struct {
	Node   Node
	Mode   Mode
	Socket string
	Pace   Pace
	Cloud  cloudSeed
	AWS    string         // URL
	Weight map[string]int // normal, by pool

	NodeLife time.Duration // gateways: of the certificates that they give; 0: the default
	HTTPS    bool          // gateways: they listen on port 443 too
}

// routeName is the demo's only route.
const routeName = "api"

// normalWeights of the demo route.
var normalWeights = map[string]int{PoolRoom: 70, PoolCloud: 30}

// renderConfig writes one agent's configuration as an operator would. It writes
// line by line because text/template looks methods up by name, which keeps the
// linker from dropping anything that the AWS SDK exports: 38 MB of binary.
func renderConfig(p agentPlan) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by \"drawbridge lab\" for %s.", p.Node.Name)
	line("version: 1")
	line("listen_port: %d", p.Node.ListenPort)
	if len(p.Node.Names) > 0 {
		line("endpoints: [%s]", strings.Join(p.Node.Names, ", "))
	}
	line("socket: %s", p.Socket)
	if p.Mode == Loopback {
		line("backend: netstack")
		if p.Node.Gateway {
			line("connect_proxy: %s", p.Node.Proxy)
		}
	} else {
		line("backend: tun")
		line("interface: drawbridge0")
	}
	if p.Node.Gateway {
		p.renderRoute(line)
		p.renderEnrolment(line)
	} else {
		p.renderService(line)
	}
	return b.Bytes()
}

func (p agentPlan) renderEnrolment(line func(string, ...any)) {
	if p.NodeLife == 0 && !p.HTTPS {
		return
	}
	line("enrolment:")
	if p.NodeLife != 0 {
		line("  node_life: %s", p.NodeLife)
	}
	if p.HTTPS {
		line("  listen: [\":%d\"]", httpsPort)
	}
}

func (p agentPlan) renderService(line func(string, ...any)) {
	line("services:")
	line("  - name: web")
	line("    port: 8080")
	if p.Mode == Loopback {
		line("    to: %s", p.Node.App)
	}
	line("    check: {http: /healthz, interval: 1s, timeout: 500ms}")
}

func (p agentPlan) renderRoute(line func(string, ...any)) {
	const shortened = "   # the default is longer; shortened for watching"
	pool := `      - {name: %s, site: %s, service: web, target_group: "%s", weight: %d}`
	line("routes:")
	line("  - name: %s", routeName)
	line("    rule: %s", p.Cloud.Rule)
	line("    policy: static")
	line("    hold_down: %s"+shortened, p.Pace.HoldDown)
	line("    ramp: %s", strings.ReplaceAll(fmt.Sprint(p.Pace.Ramp), " ", ", "))
	line("    ramp_step: %s"+shortened, p.Pace.RampStep)
	line("    pools:")
	line(pool, PoolRoom, SiteRoom, p.Cloud.Groups[PoolRoom], p.Weight[PoolRoom])
	line(strings.Replace(pool, " site: %s, service: web,", "", 1), PoolCloud, p.Cloud.Groups[PoolCloud], p.Weight[PoolCloud])
	line("aws:")
	line("  region: %s", p.Cloud.Region)
	line("  endpoint_url: %s", p.AWS)
	line("  eni: %s", p.Cloud.ENIs[p.Node.Name])
	line("  route_tables: [%s]", p.Cloud.Table)
	line("  poll: 2s")
}
