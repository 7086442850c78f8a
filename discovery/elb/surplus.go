package elb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drawbridge/discovery"
)

// targetsOf reads the targets of an answer. A list that is not there at all
// is nonsense: ELB sends an empty list for an empty group.
func targetsOf(ds []types.TargetHealthDescription) ([]discovery.Target, error) {
	if ds == nil {
		return nil, fmt.Errorf("%w: the answer has no list of targets", discovery.ErrUnavailable)
	}
	out := make([]discovery.Target, 0, len(ds))
	for _, d := range ds {
		if d.Target == nil || d.TargetHealth == nil || aws.ToString(d.Target.Id) == "" || d.TargetHealth.State == "" {
			return nil, fmt.Errorf("%w: the answer has a target without id or state", discovery.ErrUnavailable)
		}
		out = append(out, discovery.Target{
			ID: *d.Target.Id, Port: uint16(aws.ToInt32(d.Target.Port)),
			State: stateOf(d.TargetHealth.State), Reason: string(d.TargetHealth.Reason),
		})
	}
	slices.SortFunc(out, func(a, b discovery.Target) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
	return out, nil
}

// stateOf: unhealthy.draining (NLB) is a registered, unhealthy target whose
// connections are being let go; it is not one that is being deregistered.
func stateOf(s types.TargetHealthStateEnum) discovery.TargetState {
	if s == types.TargetHealthStateEnumUnhealthyDraining {
		return discovery.TargetUnhealthy
	}
	return discovery.TargetState(s)
}

// difference between a target group and a wish.
type difference struct {
	missing []discovery.TargetRef // to register, sorted
	surplus []discovery.TargetRef // to deregister, after all are registered
	kept    []discovery.TargetRef // surplus that must stay for now
}

// compare computes the difference. Targets that drain count as absent: a
// wanted one is registered again, a surplus one is left alone. Nothing outside
// wish.Owned is touched, and wishing for it is an error.
func compare(have []discovery.Target, w discovery.TargetWish) (difference, error) {
	var d difference
	wanted := map[discovery.TargetRef]bool{}
	for _, t := range w.Targets {
		if !w.Owned.IsValid() || !w.Owned.Contains(t.Addr) {
			return d, fmt.Errorf("%w: target %s of group %s is outside the owned prefix %s", discovery.ErrRefused,
				netip.AddrPortFrom(t.Addr, t.Port), w.Group, w.Owned)
		}
		wanted[t] = true
	}
	present, healthyStays, stays := map[discovery.TargetRef]bool{}, false, len(wanted) > 0
	var surplus []discovery.Target
	for _, t := range have {
		if t.State == discovery.TargetDraining {
			continue
		}
		ref, ok := refOf(t)
		if ok && w.Owned.IsValid() && w.Owned.Contains(ref.Addr) && !wanted[ref] {
			surplus = append(surplus, t)
			continue
		}
		if ok {
			present[ref] = true
		}
		stays = true
		healthyStays = healthyStays || t.State == discovery.TargetHealthy
	}
	for ref := range wanted {
		if !present[ref] {
			d.missing = append(d.missing, ref)
		}
	}
	slices.SortFunc(d.missing, compareRefs)
	keep := lastOne(surplus, stays, healthyStays)
	for i, t := range surplus {
		ref, _ := refOf(t)
		if i == keep {
			d.kept = append(d.kept, ref)
			continue
		}
		d.surplus = append(d.surplus, ref)
	}
	slices.SortFunc(d.surplus, compareRefs)
	return d, nil
}

// lastOne is the index of the surplus target that must stay, -1 for none. An
// empty group answers 503 for its share (ALB user guide), which is worse than
// a target that may be dead; and new targets take over only once ELB calls one
// of them healthy.
func lastOne(surplus []discovery.Target, stays, healthyStays bool) int {
	healthy := slices.IndexFunc(surplus, func(t discovery.Target) bool { return t.State == discovery.TargetHealthy })
	if healthy >= 0 && !healthyStays {
		return healthy
	}
	if !stays && len(surplus) > 0 {
		return 0
	}
	return -1
}

// refOf is the key of an ip target; instances and ARNs have none.
func refOf(t discovery.Target) (discovery.TargetRef, bool) {
	a, err := netip.ParseAddr(t.ID)
	return discovery.TargetRef{Addr: a, Port: t.Port}, err == nil
}

func compareRefs(a, b discovery.TargetRef) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
}

// refsText lists targets for people, not more than a few.
func refsText(refs []discovery.TargetRef) string {
	const most = 5
	var s []string
	for i, r := range refs {
		if i == most {
			s = append(s, fmt.Sprintf("and %d more", len(refs)-most))
			break
		}
		s = append(s, netip.AddrPortFrom(r.Addr, r.Port).String())
	}
	return strings.Join(s, ", ")
}
