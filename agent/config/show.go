package config

import (
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"drawbridge/discovery"
)

// Line is one value of the effective configuration.
type Line struct {
	Key     string // path, for example log.level or routes[api].pools[cloud].weight
	Value   string // as YAML
	Default bool   // the same as if it were not written
}

// Effective is every value in force, in the order of reference.yaml. Entries of
// lists are named by their name.
func (c Settings) Effective() []Line {
	var all []Line
	flatten("", describe(c), &all)
	return all
}

// Show writes the effective configuration as YAML that reads as the same
// settings. Values that are the default say so in a comment.
func (c Settings) Show(w io.Writer) error {
	var b strings.Builder
	b.WriteString("version: 1\n")
	render(&b, "", describe(c))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// item is a key with a value, or with items below it, or with a list of them.
type item struct {
	key   string
	value string
	def   bool
	below []item
	list  [][]item // each entry begins with its name
}

// endpoints are addresses and names as they are written.
func (c Settings) endpoints() []string {
	var all []string
	for _, e := range c.Endpoints {
		all = append(all, e.String())
	}
	return append(all, c.EndpointNames...)
}

// put describes a value beside its default.
func put[T any](key string, v, def T, show func(T) string) item {
	return item{key: key, value: show(v), def: reflect.DeepEqual(v, def)}
}

func describe(c Settings) []item {
	d := Default()
	return []item{
		put("listen_port", c.ListenPort, d.ListenPort, number),
		put("endpoints", c.endpoints(), d.endpoints(), flow(quoted)),
		put("backend", c.Backend, d.Backend, plain),
		put("interface", c.Interface, d.Interface, quoted),
		put("mtu", c.MTU, d.MTU, number),
		put("socket", c.Socket, d.Socket, quoted),
		put("connect_proxy", c.ConnectProxy, d.ConnectProxy, quoted),
		{key: "log", below: []item{
			put("level", strings.ToLower(c.Log.Level.String()), strings.ToLower(d.Log.Level.String()), plain),
			put("format", c.Log.Format, d.Log.Format, plain),
		}},
		{key: "ports", below: []item{
			put("gossip", c.Ports.Gossip, d.Ports.Gossip, number),
			put("probe", c.Ports.Probe, d.Ports.Probe, number),
		}},
		{key: "services", list: each(c.Services, describeService)},
		put("advertise", c.Advertise, d.Advertise, flow(printed[netip.Prefix])),
		{key: "routes", list: each(c.Routes, describeRoute)},
		{key: "timing", below: describeTiming(c.Timing, d.Timing)},
		{key: "aws", below: []item{
			put("region", c.AWS.Region, d.AWS.Region, quoted),
			put("endpoint_url", c.AWS.EndpointURL, d.AWS.EndpointURL, quoted),
			put("eni", c.AWS.ENI, d.AWS.ENI, quoted),
			put("route_tables", c.AWS.RouteTables, d.AWS.RouteTables, flow(quoted)),
			put("poll", c.AWS.Poll, d.AWS.Poll, short),
		}},
		{key: "enrolment", below: describeEnrolment(c.Enrolment, d.Enrolment)},
	}
}

func describeTiming(t, d Timing) []item {
	return []item{
		put("pulse", t.Pulse, d.Pulse, short),
		put("echo_after", t.EchoAfter, d.EchoAfter, short),
		put("dark_after", t.DarkAfter, d.DarkAfter, short),
		put("alone_after", t.AloneAfter, d.AloneAfter, short),
		put("peer_silent", t.PeerSilent, d.PeerSilent, short),
		put("view_fresh", t.ViewFresh, d.ViewFresh, short),
		put("start_grace", t.StartGrace, d.StartGrace, short),
		put("target_lost", t.TargetLost, d.TargetLost, short),
	}
}

func describeService(v discovery.ServiceSpec) []item {
	d := defaultService()
	items := []item{
		{key: "name", value: quoted(v.Name)},
		{key: "port", value: number(v.Port)},
		put("to", v.To, localhost(v.Port), printed),
		put("capacity", v.Capacity, d.Capacity, number),
	}
	if v.Check.Kind == discovery.CheckNone {
		return items
	}
	kind := item{key: "tcp", value: "true"}
	if v.Check.Kind == discovery.CheckHTTP {
		kind = item{key: "http", value: quoted(v.Check.Path)}
	}
	k := defaultCheck()
	return append(items, item{key: "check", below: []item{
		kind,
		put("interval", v.Check.Interval, k.Interval, short),
		put("timeout", v.Check.Timeout, k.Timeout, short),
		put("rise", v.Check.Rise, k.Rise, number),
		put("fall", v.Check.Fall, k.Fall, number),
	}})
}

func describeRoute(r discovery.Route) []item {
	d := defaultRoute()
	return []item{
		{key: "name", value: quoted(r.Name)},
		{key: "rule", value: quoted(r.Rule)},
		put("policy", r.Policy, d.Policy, plain),
		put("stickiness", r.Stickiness, d.Stickiness, short),
		put("hold_down", r.HoldDown, d.HoldDown, short),
		put("hold_max", r.HoldMax, d.HoldMax, short),
		put("ramp", r.Ramp, d.Ramp, flow(number[int])),
		put("ramp_step", r.RampStep, d.RampStep, short),
		{key: "pools", list: each(r.Pools, describePool)},
	}
}

func describePool(p discovery.Pool) []item {
	items := []item{{key: "name", value: quoted(p.Name)}}
	if !p.Outside() {
		items = append(items, item{key: "site", value: quoted(p.Site)}, item{key: "service", value: quoted(p.Service)})
	}
	return append(items, item{key: "target_group", value: quoted(p.TargetGroup)}, item{key: "weight", value: number(p.Weight)})
}

func each[T any](all []T, describe func(T) []item) [][]item {
	list := make([][]item, 0, len(all))
	for _, v := range all {
		list = append(list, describe(v))
	}
	return list
}

func flatten(path string, items []item, into *[]Line) {
	for _, it := range items {
		key := path + it.key
		switch {
		case it.list != nil:
			for _, entry := range it.list {
				name, err := strconv.Unquote(entry[0].value)
				if err != nil {
					name = entry[0].value
				}
				flatten(key+"["+name+"].", entry[1:], into)
			}
		case it.below != nil:
			flatten(key+".", it.below, into)
		default:
			*into = append(*into, Line{key, it.value, it.def})
		}
	}
}

func render(b *strings.Builder, indent string, items []item) {
	for i, it := range items {
		lead := indent
		if i == 0 && strings.HasSuffix(indent, "- ") { // first key of a list's entry
			indent = strings.Replace(indent, "- ", "  ", 1)
		}
		switch {
		case it.list != nil && len(it.list) == 0:
			fmt.Fprintf(b, "%s%s: []  # default\n", lead, it.key)
		case it.list != nil:
			fmt.Fprintf(b, "%s%s:\n", lead, it.key)
			for _, entry := range it.list {
				render(b, indent+"  - ", entry)
			}
		case it.below != nil:
			fmt.Fprintf(b, "%s%s:\n", lead, it.key)
			render(b, indent+"  ", it.below)
		case it.def:
			fmt.Fprintf(b, "%s%s: %s  # default\n", lead, it.key, it.value)
		default:
			fmt.Fprintf(b, "%s%s: %s\n", lead, it.key, it.value)
		}
	}
}

func number[T ~int | ~uint16](n T) string { return strconv.Itoa(int(n)) }
func truth(b bool) string                 { return strconv.FormatBool(b) }
func plain[T ~string](s T) string         { return string(s) }
func printed[T fmt.Stringer](v T) string  { return quoted(v.String()) }

// quoted is text as YAML; a double-quoted scalar of YAML reads the escapes of
// Go (YAML 1.2, section 5.7).
func quoted(s string) string { return strconv.Quote(s) }

// flow is a list in one line.
func flow[T any](show func(T) string) func([]T) string {
	return func(all []T) string {
		words := make([]string, 0, len(all))
		for _, v := range all {
			words = append(words, show(v))
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
}
