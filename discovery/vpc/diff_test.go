package vpc

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"drawbridge/discovery"
)

func TestCompare(t *testing.T) {
	to := func(dest, eni string, state types.RouteState) types.Route {
		r := types.Route{DestinationCidrBlock: aws.String(dest), State: state}
		if eni != "" {
			r.NetworkInterfaceId = aws.String(eni)
		}
		return r
	}
	nat := to("10.9.0.0/16", "", types.RouteStateActive)
	nat.NatGatewayId = aws.String("nat-1")
	deadNAT := nat
	deadNAT.State = types.RouteStateBlackhole
	local := types.Route{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local"), State: types.RouteStateActive}
	v6 := types.Route{DestinationIpv6CidrBlock: aws.String("::/0"), GatewayId: aws.String("igw-1")}

	tests := []struct {
		name   string
		routes []types.Route
		prefix string
		eni    string
		action string
		detail string
		err    string
	}{
		{"missing", []types.Route{local, v6}, "10.9.0.0/16", "eni-1", "CreateRoute", "10.9.0.0/16 via eni-1", ""},
		{"host bits are masked", []types.Route{local}, "10.9.1.2/16", "eni-1", "CreateRoute", "10.9.0.0/16 via eni-1", ""},
		{"more specific is another route", []types.Route{to("10.9.1.0/24", "eni-9", "active")}, "10.9.0.0/16", "eni-1", "CreateRoute", "10.9.0.0/16 via eni-1", ""},
		{"there", []types.Route{to("10.9.0.0/16", "eni-1", "active")}, "10.9.0.0/16", "eni-1", "", "", ""},
		{"other interface", []types.Route{local, to("10.9.0.0/16", "eni-2", "active")}, "10.9.0.0/16", "eni-1", "ReplaceRoute", "10.9.0.0/16 via eni-1, was eni-2", ""},
		{"black hole", []types.Route{to("10.9.0.0/16", "eni-2", "blackhole")}, "10.9.0.0/16", "eni-1", "ReplaceRoute", "10.9.0.0/16 via eni-1, was eni-2", ""},
		{"black hole of another kind", []types.Route{deadNAT}, "10.9.0.0/16", "eni-1", "ReplaceRoute", "10.9.0.0/16 via eni-1, was blackhole", ""},
		{"foreign", []types.Route{nat}, "10.9.0.0/16", "eni-1", "", "", "leads to nat-1"},
		{"no interface", nil, "10.9.0.0/16", "", "", "", "no network interface"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := compare(types.RouteTable{Routes: tt.routes}, discovery.NextHopWish{
				Table: "rtb-1", Prefix: netip.MustParsePrefix(tt.prefix), ENI: tt.eni,
			})
			if tt.err != "" {
				if !errors.Is(err, discovery.ErrRefused) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.action != tt.action || got.detail != tt.detail {
				t.Errorf("%+v %v, want %q %q", got, err, tt.action, tt.detail)
			}
		})
	}
	if _, err := compare(types.RouteTable{}, discovery.NextHopWish{ENI: "eni-1"}); !errors.Is(err, discovery.ErrRefused) {
		t.Errorf("no prefix: %v", err)
	}
}
