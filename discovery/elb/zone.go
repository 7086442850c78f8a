package elb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drawbridge/discovery"
)

// allZones is the zone of a target outside the VPC's subnets, which an overlay
// address always is (API reference, TargetDescription.AvailabilityZone).
const allZones = "all"

// descriptions of targets for a call; zones nil leaves the zone out, as
// deregistration needs none.
func descriptions(refs []discovery.TargetRef, zones []string) []types.TargetDescription {
	out := make([]types.TargetDescription, len(refs))
	for i, r := range refs {
		out[i] = types.TargetDescription{Id: aws.String(r.Addr.String()), Port: aws.Int32(int32(r.Port))}
		if len(zones) > 0 {
			out[i].AvailabilityZone = aws.String(zones[spread(r)%len(zones)])
		}
	}
	return out
}

// spread deals targets over zones, the same way every time.
func spread(r discovery.TargetRef) int {
	n := int(r.Port)
	for _, b := range r.Addr.AsSlice() {
		n += int(b)
	}
	return n
}

// wantsZone reports whether ELB refused the zone "all" because the group's
// cross-zone load balancing is off (ValidationError, recognised by its text:
// ELB has one code for everything).
func wantsZone(err error) bool {
	return errors.Is(err, discovery.ErrRefused) && mentions(err, "cross-zone", "availability zone")
}

// insideVPC reports whether ELB refused "all" because the address lies in a
// subnet of the VPC.
func insideVPC(err error) bool {
	return errors.Is(err, discovery.ErrRefused) && mentions(err, "within the vpc", "overridden")
}

// advised adds the next step to refusals that a person must resolve; nil
// stays nil.
func advised(err error) error {
	switch {
	case err == nil:
		return nil
	case insideVPC(err):
		return fmt.Errorf("%w (the mesh prefix lies in a subnet of the VPC; choose another mesh prefix)", err)
	case mentions(err, "toomanytargets"), mentions(err, "toomanyregistrations"):
		return fmt.Errorf("%w (a quota of ELB; ask AWS to raise it, or publish fewer targets)", err)
	case mentions(err, "client ip preservation"):
		return fmt.Errorf("%w (switch preserve_client_ip off for this target group, and use no UDP listener)", err)
	}
	return err
}

func mentions(err error, words ...string) bool {
	text := strings.ToLower(err.Error())
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// zonesOf finds the zones of the load balancer that uses a group.
func zonesOf(ctx context.Context, api ZoneAPI, group string) ([]string, error) {
	groups, err := read(ctx, api.DescribeTargetGroups, &elbv2.DescribeTargetGroupsInput{TargetGroupArns: []string{group}})
	if err != nil {
		return nil, fmt.Errorf("describe target group %s: %w", group, err)
	}
	if len(groups.TargetGroups) != 1 || len(groups.TargetGroups[0].LoadBalancerArns) == 0 {
		return nil, fmt.Errorf("%w: target group %s is on no load balancer, so its zones are not known", discovery.ErrRefused, group)
	}
	lbs, err := read(ctx, api.DescribeLoadBalancers, &elbv2.DescribeLoadBalancersInput{LoadBalancerArns: groups.TargetGroups[0].LoadBalancerArns})
	if err != nil {
		return nil, fmt.Errorf("describe load balancer of %s: %w", group, err)
	}
	var zones []string
	for _, lb := range lbs.LoadBalancers {
		for _, z := range lb.AvailabilityZones {
			zones = append(zones, aws.ToString(z.ZoneName))
		}
	}
	slices.Sort(zones)
	zones = slices.Compact(zones)
	if len(zones) == 0 || zones[0] == "" {
		return nil, fmt.Errorf("%w: the load balancer of %s names no zones", discovery.ErrUnavailable, group)
	}
	return zones, nil
}
