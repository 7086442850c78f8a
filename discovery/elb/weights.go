package elb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drawbridge/discovery"
)

// rulesPerCall is how many rules one DescribeRules asks for; AWS documents no
// maximum.
const rulesPerCall = 20

// WeightsOptions of the hand. API is required.
type WeightsOptions struct {
	API RuleAPI
	// Report receives the readings of all rules of the wish, sorted, after
	// every reading. It is called from Apply and owns the slice.
	Report func([]discovery.Split)
	Now    func() time.Time // stamps readings; nil means time.Now
	Logger *slog.Logger
}

// Weights is the hand on forward actions. Apply is for one loop at a time.
type Weights struct {
	opts WeightsOptions
	last map[string]discovery.Split // last good reading, and newest error
}

// NewWeights makes the hand; it calls nothing yet.
func NewWeights(o WeightsOptions) *Weights {
	o.Logger, o.Now = loggerOr(o.Logger), clockOr(o.Now)
	return &Weights{opts: o, last: map[string]discovery.Split{}}
}

// Apply reads every rule of wish.Read.Rules and of wish.Splits, reports, and,
// with wish.Write, modifies the rules that differ and reads them back. A rule
// that fails does not stop the others. It returns the number of rules modified.
func (h *Weights) Apply(ctx context.Context, wish discovery.CloudWish) (changed int, err error) {
	names := rulesOf(wish)
	rules, errs := h.read(ctx, names)
	h.note(names, rules, errs)
	h.report(names)
	failures := listed(names, errs)
	if !wish.Write {
		return 0, errors.Join(failures...)
	}
	var touched []string
	for _, w := range wish.Splits {
		if errs[w.Rule] != nil {
			continue
		}
		start := h.opts.Now()
		diff, err := modified(rules[w.Rule], w)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if diff == nil {
			continue
		}
		touched = append(touched, w.Rule)
		in := &elbv2.ModifyRuleInput{RuleArn: aws.String(w.Rule), Actions: diff.actions}
		if err := write(ctx, h.opts.API.ModifyRule, in); err != nil {
			failures = append(failures, fmt.Errorf("modify rule %s: %w", w.Rule, err))
			continue
		}
		changed++
		h.opts.Logger.Info("weights changed", "rule", w.Rule, "weight", diff.detail, "reason", w.Reason, "took", h.opts.Now().Sub(start))
	}
	if len(touched) > 0 && ctx.Err() == nil {
		// Also after a failure: a call that timed out may have been done.
		rules, errs = h.read(ctx, touched)
		h.note(touched, rules, errs)
		h.report(names)
		failures = append(failures, listed(touched, errs)...)
	}
	return changed, errors.Join(failures...)
}

// Calls returns what Apply would do now if it were allowed to write. It reads
// AWS but reports nothing, and may run beside Apply.
func (h *Weights) Calls(ctx context.Context, wish discovery.CloudWish) ([]discovery.Call, error) {
	names := rulesOf(wish)
	rules, errs := h.read(ctx, names)
	failures := listed(names, errs)
	var calls []discovery.Call
	for _, w := range wish.Splits {
		if errs[w.Rule] != nil {
			continue
		}
		diff, err := modified(rules[w.Rule], w)
		if err != nil {
			failures = append(failures, err)
		}
		if diff != nil {
			calls = append(calls, discovery.Call{
				Service: service, Action: "ModifyRule", Object: w.Rule, Detail: diff.detail, Reason: w.Reason,
			})
		}
	}
	return calls, errors.Join(failures...)
}

// rulesOf names all rules of a wish, sorted.
func rulesOf(wish discovery.CloudWish) []string {
	names := slices.Clone(wish.Read.Rules)
	for _, w := range wish.Splits {
		names = append(names, w.Rule)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// read asks for rules in few calls. One rule that does not exist spoils the
// whole call, so then each is asked for alone.
func (h *Weights) read(ctx context.Context, names []string) (map[string]types.Rule, map[string]error) {
	rules, errs := map[string]types.Rule{}, map[string]error{}
	for chunk := range slices.Chunk(names, rulesPerCall) {
		err := h.readChunk(ctx, chunk, rules)
		if errors.Is(err, discovery.ErrNotFound) && len(chunk) > 1 {
			for _, name := range chunk {
				if err := h.readChunk(ctx, []string{name}, rules); err != nil {
					errs[name] = err
				}
			}
			continue
		}
		for _, name := range chunk {
			if err != nil {
				errs[name] = err
			}
		}
	}
	for _, name := range names {
		if _, ok := rules[name]; !ok && errs[name] == nil {
			errs[name] = fmt.Errorf("%w: the answer does not have rule %s", discovery.ErrUnavailable, name)
		}
	}
	return rules, errs
}

func (h *Weights) readChunk(ctx context.Context, names []string, into map[string]types.Rule) error {
	out, err := read(ctx, h.opts.API.DescribeRules, &elbv2.DescribeRulesInput{RuleArns: names})
	if err != nil {
		return fmt.Errorf("describe rules: %w", err)
	}
	for _, r := range out.Rules {
		into[aws.ToString(r.RuleArn)] = r
	}
	return nil
}

// note keeps what was read: a failure keeps the last good reading.
func (h *Weights) note(names []string, rules map[string]types.Rule, errs map[string]error) {
	now := h.opts.Now()
	for _, name := range names {
		err := errs[name]
		if err == nil {
			var s discovery.Split
			if s, err = split(rules[name]); err == nil {
				s.Read = now
				h.last[name] = s
				continue
			}
		}
		s := h.last[name]
		s.Rule, s.Err = name, err.Error()
		h.last[name] = s
	}
}

func (h *Weights) report(names []string) {
	kept := make(map[string]discovery.Split, len(names))
	out := make([]discovery.Split, 0, len(names))
	for _, name := range names {
		s := h.last[name]
		kept[name] = s
		s.Weights = slices.Clone(s.Weights)
		out = append(out, s)
	}
	h.last = kept
	if h.opts.Report != nil {
		h.opts.Report(out)
	}
}

// listed puts the errors of names in order.
func listed(names []string, errs map[string]error) []error {
	var out []error
	for i, name := range names {
		err := errs[name]
		// A chunk's error is the same for all its rules: once is enough.
		if err != nil && (i == 0 || errs[names[i-1]] == nil || errs[names[i-1]].Error() != err.Error()) {
			out = append(out, err)
		}
	}
	return out
}
