package vpc

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"drawbridge/discovery"
)

// routeFor finds the route whose destination is exactly the prefix.
func routeFor(t types.RouteTable, prefix netip.Prefix) (types.Route, bool) {
	for _, r := range t.Routes {
		p, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock))
		if err == nil && p == prefix.Masked() {
			return r, true
		}
	}
	return types.Route{}, false
}

// nextHop reads the route for the prefix.
func nextHop(t types.RouteTable, prefix netip.Prefix) discovery.NextHop {
	h := discovery.NextHop{Table: aws.ToString(t.RouteTableId)}
	if r, ok := routeFor(t, prefix); ok {
		h.ENI, h.State = aws.ToString(r.NetworkInterfaceId), string(r.State)
	}
	for _, r := range t.Routes { // the gateway "local" (EC2, Route)
		if p, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock)); err == nil && aws.ToString(r.GatewayId) == "local" {
			h.Local = append(h.Local, p)
		}
	}
	slices.SortFunc(h.Local, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	return h
}

// step is what is to be done in one table.
type step struct {
	action string // CreateRoute, ReplaceRoute; "" nothing
	detail string // for people
}

// compare computes the step, or an error when the wish is nonsense or the
// route is somebody else's. AWS stores masked prefixes and ReplaceRoute looks
// for the exact one, so only those are ever sent.
func compare(t types.RouteTable, w discovery.NextHopWish) (step, error) {
	if !w.Prefix.IsValid() || w.ENI == "" {
		return step{}, fmt.Errorf("%w: the wish for table %s has no prefix or no network interface", discovery.ErrRefused, w.Table)
	}
	p := w.Prefix.Masked()
	r, ok := routeFor(t, p)
	if !ok {
		return step{"CreateRoute", fmt.Sprintf("%s via %s", p, w.ENI)}, nil
	}
	eni := aws.ToString(r.NetworkInterfaceId)
	switch {
	case eni == w.ENI:
		return step{}, nil
	case eni == "" && r.State != types.RouteStateBlackhole:
		return step{}, fmt.Errorf("%w: the route for %s in table %s leads to %s, not to a network interface; it is not ours, remove it by hand",
			discovery.ErrRefused, p, w.Table, foreign(r))
	}
	return step{"ReplaceRoute", fmt.Sprintf("%s via %s, was %s", p, w.ENI, cmp.Or(eni, string(r.State)))}, nil
}

// foreign names what a route leads to.
func foreign(r types.Route) string {
	for _, s := range []*string{
		r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.LocalGatewayId,
		r.CarrierGatewayId, r.CoreNetworkArn, r.EgressOnlyInternetGatewayId, r.InstanceId, r.OdbNetworkArn,
	} {
		if aws.ToString(s) != "" {
			return *s
		}
	}
	return "something unknown"
}
