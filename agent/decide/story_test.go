package decide

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// TestStories runs the stories in testdata. A story sets a mesh up, lets
// things happen, and shows as a timeline what the agents come to think and what
// AWS is told. Run with -rewrite after a rule changed, and read the difference.
//
// Verbs:
//
//	mesh                       lines: streams PORT ... (first: TCP ports where gateways take streams) | gateway NAME site=S eni=E | server NAME site=S service=N:PORT
//	                           route NAME rule=R sticky=D hold=D, then its lines: pool NAME site=S service=N group=G weight=N
//	                           table ID | group G healthy=N/M (outside the mesh) | weights RULE GROUP=N ...
//	run for=D                  time passes; prints what changes
//	silence site=S | node=N | between=A,B    packets stop (sites or nodes)
//	heal (same arguments)      they pass again; without arguments: all of them
//	isolate node=N [aws]       a node hears nobody (nor AWS); connect undoes it
//	wire cut|mend between=(A,B)  what lies between two servers beside the gateways
//	name node=N addr=A:P       what is found under the names of a gateway (seen by all)
//	move node=N addr=A:P       a gateway says that it is dialled there
//	dials node=N               where it dials its gateways
//	kill node=N; start node=N [forget]    the agent dies and starts; forget loses its memory
//	pause node=N; resume node=N           its process stands still
//	revoke node=N; quarantine node=N; release node=N    a gateway says so, and all heard it
//	clock node=N [back=D] [skew=D]        its clock was set back, or differs from gw-a's
//	certificate node=N begins=D    its certificate begins so long from now
//	aws unreadable | readable | readonly | writable [node=N]
//	group G healthy=N/M; freeze G healthy=N; thaw G     what the load balancer's checks say
//	weights RULE GROUP=N ...   somebody edits the weights by hand
//	udp site=S blocked | open             the site's firewall drops UDP, or lets it pass
//	tcp port=P blocked | open             nobody reaches this TCP port of gateways
//	view node=N site=S state=V a gateway tells a view of its own making; state=own ends it
//	node=N set: drain, undrain, young, grown, check=passing|failing|unknown
//	underlay mtu=N             everybody's link
//	width from=A to=B size=N   overlay packets above N bytes vanish on the way (nodes or sites); 0 ends it
//	upgrade node=N | downgrade node=N     it understands sizes, or is too old for them
//	why node=N SUBJECT         the explanation
//	health node=N              the findings
//	host node=N                lines: route PREFIX INTERFACE | conflict KIND SUBJECT | WHAT | BY; what else is on its host
//	vpc table=ID local=PREFIX  a network of the VPC itself
//	certify node=N subnets=P,..    its next certificate
//	behind node=N              networks that it leads to peers, and those that it forwards to itself
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		st := &story{g: newStage()}
		datadriven.RunTest(t, path, st.do)
	})
}

type story struct {
	g   *stage
	out strings.Builder
}

func (st *story) do(t *testing.T, d *datadriven.TestData) string {
	st.out.Reset()
	g := st.g
	g.trace = func(format string, args ...any) {
		fmt.Fprintf(&st.out, "%7.2fs  %s\n", g.now.Sub(g.zero).Seconds(), fmt.Sprintf(format, args...))
	}
	switch d.Cmd {
	case "mesh":
		st.mesh(t, d.Input)
	case "run":
		g.run(dur(t, arg(d, "for")))
	case "silence", "heal":
		st.cut(d)
	case "isolate", "connect":
		n := arg(d, "node")
		g.cuts[[2]string{n, "*"}] = d.Cmd == "isolate"
		if d.HasArg("aws") {
			g.aws.cut[n] = d.Cmd == "isolate"
		}
	case "wire":
		v, _ := d.Arg("between")
		g.lan.cut[pairOf(v.Vals[0], v.Vals[1])] = d.HasArg("cut")
	case "name":
		g.resolved = []discovery.Endpoint{{Node: g.actor(arg(d, "node")).ID, Addr: netip.MustParseAddrPort(arg(d, "addr"))}}
	case "move":
		a := g.actor(arg(d, "node"))
		a.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(arg(d, "addr"))}
	case "dials":
		return g.dials(g.actor(arg(d, "node")))
	case "kill":
		g.actor(arg(d, "node")).dead = true
	case "leave": // says goodbye and stops
		a := g.actor(arg(d, "node"))
		a.dead, a.left = true, true
	case "start":
		a := g.actor(arg(d, "node"))
		if d.HasArg("forget") {
			a.mem = Memory{}
		}
		a.reset(g)
	case "revoke":
		g.actor(arg(d, "node")).revoked = g.now
	case "quarantine":
		g.actor(arg(d, "node")).apart = g.now
	case "release":
		g.actor(arg(d, "node")).apart = time.Time{}
	case "pause", "resume":
		a := g.actor(arg(d, "node"))
		a.paused = d.Cmd == "pause"
		a.woke = g.now
	case "clock":
		a := g.actor(arg(d, "node"))
		if d.HasArg("back") {
			a.clockWas = g.now.Add(dur(t, arg(d, "back")))
		}
		if d.HasArg("skew") {
			a.skew = dur(t, arg(d, "skew"))
		}
	case "certificate":
		g.actor(arg(d, "node")).begins = g.now.Add(dur(t, arg(d, "begins")))
	case "aws":
		st.cloud(d)
	case "group", "freeze", "thaw":
		st.group(t, d)
	case "weights":
		st.weights(t, d)
	case "udp":
		g.udp[arg(d, "site")] = d.HasArg("blocked")
	case "tcp":
		g.cuts[[2]string{"tcp", arg(d, "port")}] = d.HasArg("blocked")
	case "view":
		a := g.actor(arg(d, "node"))
		if s := arg(d, "state"); s == "own" {
			delete(a.told, arg(d, "site"))
		} else {
			a.told[arg(d, "site")] = discovery.ViewState(s)
		}
	case "set":
		st.set(d)
	case "underlay":
		g.underlay = num(t, arg(d, "mtu"))
	case "width":
		g.widths[[2]string{arg(d, "from"), arg(d, "to")}] = num(t, arg(d, "size"))
	case "upgrade", "downgrade":
		g.actor(arg(d, "node")).old = d.Cmd == "downgrade"
	case "why":
		return st.why(t, d)
	case "health":
		return st.health(d)
	case "host":
		st.host(t, d)
	case "vpc":
		g.aws.local = append(g.aws.local, netip.MustParsePrefix(arg(d, "local")))
	case "certify":
		a, v := g.actor(arg(d, "node")), []netip.Prefix(nil)
		if x, _ := d.Arg("subnets"); len(x.Vals) > 0 {
			v = prefixes(strings.Join(x.Vals, ","))
		}
		a.Subnets = v
	case "behind":
		return st.behind(g.actor(arg(d, "node")))
	default:
		t.Fatalf("%s: unknown verb %q", d.Pos, d.Cmd)
	}
	if st.out.Len() == 0 {
		return "ok\n"
	}
	return st.out.String()
}

func (st *story) cut(d *datadriven.TestData) {
	g, on := st.g, d.Cmd == "silence"
	switch {
	case d.HasArg("site"):
		g.cuts[[2]string{arg(d, "site"), "*"}] = on
	case d.HasArg("node"):
		g.cuts[[2]string{arg(d, "node"), "*"}] = on
	case d.HasArg("between"):
		v, _ := d.Arg("between")
		g.cuts[[2]string{v.Vals[0], v.Vals[1]}] = on
	default:
		clear(g.cuts)
	}
}

func (st *story) cloud(d *datadriven.TestData) {
	who := "*"
	if d.HasArg("node") {
		who = arg(d, "node")
	}
	switch {
	case d.HasArg("unreadable"):
		st.g.aws.cut[who] = true
	case d.HasArg("readable"):
		delete(st.g.aws.cut, who)
	case d.HasArg("readonly"):
		st.g.aws.readOnly = true
	case d.HasArg("writable"):
		st.g.aws.readOnly = false
	}
}

func (st *story) group(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	if d.Cmd == "thaw" {
		delete(st.g.aws.frozen, name)
		return
	}
	h, r, _ := strings.Cut(arg(d, "healthy"), "/")
	if d.Cmd == "freeze" {
		st.g.aws.frozen[name] = num(t, h)
		return
	}
	st.g.aws.outside[name] = [2]int{num(t, h), num(t, r)}
}

func (st *story) weights(t *testing.T, d *datadriven.TestData) {
	rule := d.CmdArgs[0].Key
	for _, a := range d.CmdArgs[1:] {
		st.g.aws.weights[rule][a.Key] = num(t, a.Vals[0])
	}
}

func (st *story) set(d *datadriven.TestData) {
	a := st.g.actor(arg(d, "node"))
	if d.HasArg("drain") || d.HasArg("undrain") {
		a.Draining = d.HasArg("drain")
	}
	if d.HasArg("young") || d.HasArg("grown") {
		a.Young = d.HasArg("young")
	}
	if d.HasArg("check") {
		list := append([]discovery.Service(nil), a.Services...)
		for i := range list {
			list[i].Check = discovery.CheckState(arg(d, "check"))
		}
		a.Services = list
	}
	a.Seq++
}

func (st *story) why(t *testing.T, d *datadriven.TestData) string {
	a := st.g.actor(arg(d, "node"))
	subject := d.CmdArgs[len(d.CmdArgs)-1].Key
	lines, ok := Explain(a.plan, st.g.snapshot(a), subject)
	if !ok {
		return "nothing has this name\n"
	}
	return strings.Join(lines, "\n") + "\n"
}

func (st *story) health(d *datadriven.TestData) string {
	var b strings.Builder
	for _, h := range st.g.actor(arg(d, "node")).plan.Health {
		fmt.Fprintf(&b, "%s %s %s: %s\n    next: %s\n", h.Severity, h.Code, h.Subject, h.Text, h.Next)
	}
	if b.Len() == 0 {
		return "all is well\n"
	}
	return b.String()
}

// mesh reads the cast of a story.
func (st *story) mesh(t *testing.T, input string) {
	g := st.g
	for _, line := range strings.Split(input, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		kv := map[string]string{}
		for _, w := range f[1:] {
			k, v, _ := strings.Cut(w, "=")
			kv[k] = v
		}
		switch f[0] {
		case "streams":
			g.doors = f[1:]
		case "gateway":
			a := g.add(f[1], kv["site"], discovery.RoleGateway, kv["eni"])
			for _, port := range g.doors {
				a.Streams = append(a.Streams, netip.AddrPortFrom(a.Endpoints[0].Addr(), uint16(num(t, port))))
			}
		case "server":
			var svc []discovery.Service
			if name, port, ok := strings.Cut(kv["service"], ":"); ok {
				svc = []discovery.Service{{Name: name, Port: uint16(num(t, port)), Check: discovery.CheckPassing, Capacity: 1}}
			}
			a := g.add(f[1], kv["site"], discovery.RoleServer, "", svc...)
			a.Subnets, a.wants = prefixes(kv["subnets"]), prefixes(kv["advertise"])
			if kv["local"] != "" {
				a.Local = []netip.AddrPort{netip.MustParseAddrPort(kv["local"])}
			}
			if kv["seen"] != "" {
				a.Seen = []netip.AddrPort{netip.MustParseAddrPort(kv["seen"])}
			}
		case "route":
			g.routes = append(g.routes, discovery.Route{Name: f[1], Rule: kv["rule"], Policy: discovery.PolicyStatic, Stickiness: dur(t, kv["sticky"]), HoldDown: dur(t, kv["hold"])})
			g.aws.weights[kv["rule"]] = map[string]int{}
			g.aws.sticky[kv["rule"]] = kv["sticky"] != ""
		case "pool":
			r := &g.routes[len(g.routes)-1]
			r.Pools = append(r.Pools, discovery.Pool{Name: f[1], Site: kv["site"], Service: kv["service"], TargetGroup: kv["group"], Weight: num(t, kv["weight"])})
			g.aws.weights[r.Rule][kv["group"]] = num(t, kv["weight"])
			if kv["site"] != "" {
				g.aws.targets[kv["group"]] = nil
			}
		case "group":
			h, n, _ := strings.Cut(kv["healthy"], "/")
			g.aws.outside[f[1]] = [2]int{num(t, h), num(t, n)}
		case "table":
			g.tables = append(g.tables, f[1])
			g.aws.hops[f[1]] = kv["eni"]
		case "weights":
			for _, w := range f[2:] {
				k, v, _ := strings.Cut(w, "=")
				g.aws.weights[f[1]][k] = num(t, v)
			}
		default:
			t.Fatalf("mesh: unknown line %q", line)
		}
	}
}

// host reads what else is on a node's host.
func (st *story) host(t *testing.T, d *datadriven.TestData) {
	h := &tunnel.Host{}
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "route":
			h.Routes = append(h.Routes, tunnel.HostRoute{Prefix: netip.MustParsePrefix(f[1]), Interface: f[2]})
		case len(f) > 2 && f[0] == "conflict":
			parts := strings.Split(strings.TrimSpace(strings.TrimPrefix(line, "conflict "+f[1])), "|")
			for len(parts) < 3 {
				parts = append(parts, "")
			}
			h.Conflicts = append(h.Conflicts, tunnel.Conflict{
				Kind: tunnel.ConflictKind(f[1]), Subject: strings.TrimSpace(parts[0]), What: strings.TrimSpace(parts[1]), By: strings.TrimSpace(parts[2]),
			})
		default:
			t.Fatalf("%s: unknown line %q", d.Pos, line)
		}
	}
	st.g.actor(arg(d, "node")).host = h
}

// behind tells what a node leads to whom, and what it forwards to.
func (st *story) behind(a *actor) string {
	var b strings.Builder
	fmt.Fprintf(&b, "to the device: %v\n", a.plan.Behind)
	for _, p := range a.plan.Peers {
		if len(p.AllowedIPs) < 2 {
			continue
		}
		for _, m := range st.g.nodes {
			if keyOf(m) == p.Key {
				fmt.Fprintf(&b, "%s may use %v\n", m.Name, p.AllowedIPs)
			}
		}
	}
	fmt.Fprintf(&b, "out of it: %v\n", a.plan.Filter.Subnets)
	return b.String()
}

func prefixes(s string) []netip.Prefix {
	var out []netip.Prefix
	for p := range strings.SplitSeq(s, ",") {
		if p != "" {
			out = append(out, netip.MustParsePrefix(p))
		}
	}
	return out
}

func arg(d *datadriven.TestData, key string) string {
	if a, ok := d.Arg(key); ok && len(a.Vals) > 0 {
		return a.Vals[0]
	}
	panic(fmt.Sprintf("%s: %s needs %s=", d.Pos, d.Cmd, key))
}

func dur(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func num(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
