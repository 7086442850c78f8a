package cloudtest

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

var ec2Actions = map[string]handler{
	"DescribeRouteTables":       (*Cloud).describeRouteTables,
	"CreateRoute":               (*Cloud).createRoute,
	"ReplaceRoute":              (*Cloud).replaceRoute,
	"DeleteRoute":               (*Cloud).deleteRoute,
	"DescribeNetworkInterfaces": (*Cloud).describeNetworkInterfaces,
	"DescribeInstances":         (*Cloud).describeInstances,
}

// maxRoutes is the default quota of routes per table (VPC user guide, since
// June 2025).
const maxRoutes = 500

type routeTable struct {
	id, vpc string
	routes  map[netip.Prefix]*route
}

type route struct {
	dest    netip.Prefix
	eni     string
	gateway string // local, igw-...: something that is not an ENI
}

type eni struct {
	id   string
	addr netip.Addr
}

type xRoute struct {
	Destination string `xml:"destinationCidrBlock"`
	GatewayID   string `xml:"gatewayId,omitempty"`
	ENI         string `xml:"networkInterfaceId,omitempty"`
	Origin      string `xml:"origin"`
	State       string `xml:"state"`
}

type xTable struct {
	ID     string        `xml:"routeTableId"`
	VPC    string        `xml:"vpcId"`
	Routes items[xRoute] `xml:"routeSet"`
}

type xTables struct {
	Set items[xTable] `xml:"routeTableSet"`
}

type xReturn struct {
	Return bool `xml:"return"`
}

func (c *Cloud) wireTable(t *routeTable) xTable {
	out := xTable{ID: t.id, VPC: t.vpc}
	order := slices.SortedFunc(maps.Keys(t.routes), netip.Prefix.Compare)
	for _, p := range order {
		r := t.routes[p]
		x := xRoute{p.String(), r.gateway, r.eni, "CreateRoute", "active"}
		if r.gateway == "local" {
			x.Origin = "CreateRouteTable"
		}
		if r.eni != "" && c.enis[r.eni] == nil { // its target is gone
			x.State = "blackhole"
		}
		out.Routes.List = append(out.Routes.List, x)
	}
	return out
}

func (c *Cloud) table(id string) (*routeTable, error) {
	if !strings.HasPrefix(id, "rtb-") {
		return nil, fail(400, "InvalidRouteTableId.Malformed", "Invalid id: %q", id)
	}
	t := c.tables[id]
	if t == nil {
		return nil, fail(400, "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
	}
	return t, nil
}

func (c *Cloud) describeRouteTables(f form) (any, error) {
	var out xTables
	wanted := f.strings("RouteTableId")
	for _, id := range wanted {
		if _, err := c.table(id); err != nil {
			return nil, err
		}
	}
	filters := map[string][]string{}
	for _, e := range f.list("Filter") {
		name := e.get("Name")
		if name != "route-table-id" && name != "vpc-id" {
			return nil, fail(400, "InvalidParameterValue", "The filter '%s' is not known to this fake", name)
		}
		filters[name] = e.strings("Value")
	}
	for _, id := range slices.Sorted(maps.Keys(c.tables)) {
		t := c.tables[id]
		if selected(wanted, id) && selected(filters["route-table-id"], id) && selected(filters["vpc-id"], t.vpc) {
			out.Set.List = append(out.Set.List, c.wireTable(t))
		}
	}
	return out, nil
}

// destination reads the CIDR of a route. AWS stores the canonical form:
// 100.68.0.18/18 becomes 100.68.0.0/18 (API reference, CreateRoute).
func destination(f form) (netip.Prefix, error) {
	s := f.get("DestinationCidrBlock")
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return p, fail(400, "InvalidParameterValue", "Value (%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", s)
	}
	return p, nil
}

// nextHop reads the target of a route; the fake knows ENIs only.
func (c *Cloud) nextHop(f form) (*eni, error) {
	id := f.get("NetworkInterfaceId")
	if id == "" {
		return nil, fail(400, "MissingParameter", "The request must contain exactly one target, and this fake knows networkInterfaceId only")
	}
	e := c.enis[id]
	if e == nil {
		return nil, fail(400, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
	}
	return e, nil
}

// dryRun: the request is checked, not done (API reference, common parameters).
func dryRun(f form) error {
	if f.get("DryRun") == "true" {
		return fail(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	return nil
}

func (c *Cloud) createRoute(f form) (any, error) {
	t, err := c.table(f.get("RouteTableId"))
	if err != nil {
		return nil, err
	}
	p, err := destination(f)
	if err != nil {
		return nil, err
	}
	p = p.Masked()
	e, err := c.nextHop(f)
	if err != nil {
		return nil, err
	}
	if old := t.routes[p]; old != nil {
		return nil, fail(400, "RouteAlreadyExists", "The route identified by %s already exists.", p)
	}
	// VPC user guide: a route may be more specific than the local route only
	// if it is a subnet's own range; mesh prefixes are not.
	if local := c.vpcs[t.vpc]; local.Overlaps(p) && local.Bits() <= p.Bits() {
		return nil, fail(400, "InvalidParameterValue", "The destination CIDR block %s is equal to or more specific than one of this VPC's CIDR blocks.", p)
	}
	if len(t.routes) >= maxRoutes {
		return nil, fail(400, "RouteLimitExceeded", "The maximum number of routes has been reached.")
	}
	if err := dryRun(f); err != nil {
		return nil, err
	}
	t.routes[p] = &route{dest: p, eni: e.id}
	c.tellHop(t.id, p, e)
	return xReturn{true}, nil
}

// replaceRoute finds the route by the exact CIDR: host bits are not masked
// away here.
func (c *Cloud) replaceRoute(f form) (any, error) {
	t, err := c.table(f.get("RouteTableId"))
	if err != nil {
		return nil, err
	}
	p, err := destination(f)
	if err != nil {
		return nil, err
	}
	e, err := c.nextHop(f)
	if err != nil {
		return nil, err
	}
	r := t.routes[p]
	if r == nil {
		return nil, fail(400, "InvalidParameterValue", "There is no route defined for '%s' in the route table. Use CreateRoute instead.", p)
	}
	if r.gateway == "local" {
		return nil, fail(400, "InvalidParameterValue", "cannot replace the local route with this target")
	}
	if err := dryRun(f); err != nil {
		return nil, err
	}
	r.eni, r.gateway = e.id, ""
	c.tellHop(t.id, p, e)
	return xReturn{true}, nil
}

func (c *Cloud) deleteRoute(f form) (any, error) {
	t, err := c.table(f.get("RouteTableId"))
	if err != nil {
		return nil, err
	}
	p, err := destination(f)
	if err != nil {
		return nil, err
	}
	if r := t.routes[p]; r == nil || r.gateway == "local" {
		return nil, fail(400, "InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", p, t.id)
	}
	delete(t.routes, p)
	return xReturn{true}, nil
}

// tellHop calls the hook once the lock is free.
func (c *Cloud) tellHop(table string, p netip.Prefix, e *eni) {
	if c.onHop == nil {
		return
	}
	f := c.onHop
	c.after = append(c.after, func() { f(table, p, e.id, e.addr) })
}

type xENI struct {
	ID              string `xml:"networkInterfaceId"`
	Addr            string `xml:"privateIpAddress"`
	Status          string `xml:"status"`
	SourceDestCheck bool   `xml:"sourceDestCheck"`
}

type xENIs struct {
	Set items[xENI] `xml:"networkInterfaceSet"`
}

func (c *Cloud) describeNetworkInterfaces(f form) (any, error) {
	var out xENIs
	wanted := f.strings("NetworkInterfaceId")
	for _, id := range wanted {
		if c.enis[id] == nil {
			return nil, fail(400, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.enis)) {
		if selected(wanted, id) {
			out.Set.List = append(out.Set.List, xENI{id, c.enis[id].addr.String(), "in-use", false})
		}
	}
	return out, nil
}
