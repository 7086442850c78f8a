package elb

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drawbridge/discovery"
)

// maxSticky bounds target-group stickiness (API reference,
// TargetGroupStickinessConfig).
const maxSticky = 604_800 * time.Second

// split reads the weights of a rule. It fails for a rule that does not
// forward: such a rule has no weights.
func split(r types.Rule) (discovery.Split, error) {
	s := discovery.Split{Rule: aws.ToString(r.RuleArn)}
	at, err := forwardOf(r)
	if err != nil {
		return s, err
	}
	for _, t := range tuples(r.Actions[at]) {
		s.Weights = append(s.Weights, discovery.GroupWeight{Group: aws.ToString(t.TargetGroupArn), Weight: weightOf(t)})
	}
	slices.SortFunc(s.Weights, func(a, b discovery.GroupWeight) int { return strings.Compare(a.Group, b.Group) })
	s.Sticky, _ = sticky(r.Actions[at])
	return s, nil
}

// forwardOf finds the one forward action of a rule.
func forwardOf(r types.Rule) (int, error) {
	at := slices.IndexFunc(r.Actions, func(a types.Action) bool { return a.Type == types.ActionTypeEnumForward })
	if at < 0 || len(tuples(r.Actions[at])) == 0 {
		return 0, fmt.Errorf("%w: rule %s has no forward action; give it one that names every target group of the route", discovery.ErrRefused, aws.ToString(r.RuleArn))
	}
	return at, nil
}

// tuples are the groups of a forward action in either notation.
func tuples(a types.Action) []types.TargetGroupTuple {
	if a.ForwardConfig != nil && len(a.ForwardConfig.TargetGroups) > 0 {
		return a.ForwardConfig.TargetGroups
	}
	if a.TargetGroupArn != nil {
		return []types.TargetGroupTuple{{TargetGroupArn: a.TargetGroupArn}}
	}
	return nil
}

// weightOf: a weight that is not given is 1 (API reference, TargetGroupTuple).
func weightOf(t types.TargetGroupTuple) int {
	if t.Weight == nil {
		return 1
	}
	return int(*t.Weight)
}

func sticky(a types.Action) (bool, time.Duration) {
	if a.ForwardConfig == nil || a.ForwardConfig.TargetGroupStickinessConfig == nil {
		return false, 0
	}
	st := a.ForwardConfig.TargetGroupStickinessConfig
	if !aws.ToBool(st.Enabled) {
		return false, 0
	}
	return true, time.Duration(aws.ToInt32(st.DurationSeconds)) * time.Second
}

// change is a difference between a rule and a wish.
type change struct {
	actions []types.Action // the whole new list
	detail  string         // for people
}

// modified computes the whole new list of actions, or nil when the rule is as
// wished. Groups that the wish does not name keep their weight.
func modified(r types.Rule, w discovery.SplitWish) (*change, error) {
	at, err := forwardOf(r)
	if err != nil {
		return nil, err
	}
	old := tuples(r.Actions[at])
	fresh, notes, err := reweighted(r, old, w)
	if err != nil {
		return nil, err
	}
	was, wasFor := sticky(r.Actions[at])
	on, dur, err := wishedSticky(w, was, wasFor)
	if err != nil {
		return nil, err
	}
	if was != on || on && wasFor != dur {
		notes = append(notes, fmt.Sprintf("stickiness %s -> %s", stickyText(was, wasFor), stickyText(on, dur)))
	}
	if len(notes) == 0 {
		return nil, nil
	}
	return &change{actions: resend(r.Actions, at, fresh, on, dur), detail: strings.Join(notes, ", ")}, nil
}

// reweighted is the new list of groups, in the order of the rule.
func reweighted(r types.Rule, old []types.TargetGroupTuple, w discovery.SplitWish) ([]types.TargetGroupTuple, []string, error) {
	rule := aws.ToString(r.RuleArn)
	if len(old) > discovery.MaxGroupsInAction {
		return nil, nil, fmt.Errorf("%w: rule %s has %d target groups, ELB allows %d", discovery.ErrRefused, rule, len(old), discovery.MaxGroupsInAction)
	}
	want := map[string]int{}
	for _, g := range w.Weights {
		if g.Weight < 0 || g.Weight > discovery.MaxWeight {
			return nil, nil, fmt.Errorf("%w: weight %d of %s is not within 0-%d", discovery.ErrRefused, g.Weight, g.Group, discovery.MaxWeight)
		}
		if !slices.ContainsFunc(old, func(t types.TargetGroupTuple) bool { return aws.ToString(t.TargetGroupArn) == g.Group }) {
			return nil, nil, fmt.Errorf("%w: rule %s does not forward to %s; add the target group to the rule with weight 0 first", discovery.ErrRefused, rule, g.Group)
		}
		want[g.Group] = g.Weight
	}
	fresh, sum := make([]types.TargetGroupTuple, len(old)), 0
	var notes []string
	for i, t := range old {
		now := weightOf(t)
		then, named := want[aws.ToString(t.TargetGroupArn)]
		if !named {
			then = now
		}
		if then != now {
			notes = append(notes, fmt.Sprintf("%s %d -> %d", groupName(aws.ToString(t.TargetGroupArn)), now, then))
		}
		sum += then
		fresh[i] = types.TargetGroupTuple{TargetGroupArn: t.TargetGroupArn, Weight: aws.Int32(int32(then))}
	}
	if sum == 0 {
		return nil, nil, fmt.Errorf("%w: all weights of rule %s would be 0", discovery.ErrRefused, rule)
	}
	return fresh, notes, nil
}

// wishedSticky: cookies beat weights, so a weight of zero in the wish
// switches stickiness off, whatever else the wish says.
func wishedSticky(w discovery.SplitWish, was bool, wasFor time.Duration) (bool, time.Duration, error) {
	if slices.ContainsFunc(w.Weights, func(g discovery.GroupWeight) bool { return g.Weight == 0 }) {
		return false, 0, nil
	}
	if w.Stickiness == nil {
		return was, wasFor, nil
	}
	d := *w.Stickiness
	if d == 0 {
		return false, 0, nil
	}
	if d < time.Second || d > maxSticky || d%time.Second != 0 {
		return false, 0, fmt.Errorf("%w: stickiness %v is not whole seconds within 1s-%v", discovery.ErrRefused, d, maxSticky)
	}
	return true, d, nil
}

func stickyText(on bool, d time.Duration) string {
	if !on {
		return "off"
	}
	return d.String()
}

// resend copies the actions, with a new forward action at its place. The list
// replaces the old one whole (API reference, ModifyRule), so that whatever is
// not in it is lost; the one thing that is never read back, the OIDC client
// secret, is kept by a flag.
func resend(old []types.Action, at int, groups []types.TargetGroupTuple, on bool, dur time.Duration) []types.Action {
	out := slices.Clone(old)
	for i, a := range out {
		if a.AuthenticateOidcConfig != nil {
			oidc := *a.AuthenticateOidcConfig
			oidc.ClientSecret, oidc.UseExistingClientSecret = nil, aws.Bool(true)
			out[i].AuthenticateOidcConfig = &oidc
		}
	}
	st := &types.TargetGroupStickinessConfig{Enabled: aws.Bool(on)}
	if on && dur > 0 { // NLB knows no duration
		st.DurationSeconds = aws.Int32(int32(dur / time.Second))
	}
	// One notation is enough: TargetGroupArn beside a ForwardConfig with more
	// than one group is refused.
	out[at].TargetGroupArn = nil
	out[at].ForwardConfig = &types.ForwardActionConfig{TargetGroups: groups, TargetGroupStickinessConfig: st}
	return out
}

// groupName is the name within a target group's ARN, for people.
func groupName(arn string) string {
	parts := strings.Split(arn, "/")
	if len(parts) < 3 {
		return arn
	}
	return parts[len(parts)-2]
}
