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

	"drawbridge/discovery"
)

// targetsPerCall: AWS documents no maximum; aws-load-balancer-controller
// proved 200.
const targetsPerCall = 200

// TargetsOptions of the hand. API is required.
type TargetsOptions struct {
	API TargetAPI
	// Report receives the readings of all groups of the wish, sorted, after
	// every reading. It is called from Apply and owns the slice.
	Report func([]discovery.TargetGroup)
	Now    func() time.Time // stamps readings; nil means time.Now
	Logger *slog.Logger
}

// Targets is the hand on target groups. Apply is for one loop at a time.
type Targets struct {
	opts TargetsOptions
	last map[string]discovery.TargetGroup // last good reading, and newest error
}

// NewTargets makes the hand; it calls nothing yet.
func NewTargets(o TargetsOptions) *Targets {
	o.Logger, o.Now = loggerOr(o.Logger), clockOr(o.Now)
	return &Targets{opts: o, last: map[string]discovery.TargetGroup{}}
}

// Apply reads every group of wish.Read.Groups and of wish.Targets, reports,
// and, with wish.Write, registers what is missing and then deregisters what is
// surplus within the owned prefix. A group that fails does not stop the
// others. It returns the number of targets registered and deregistered.
func (h *Targets) Apply(ctx context.Context, wish discovery.CloudWish) (changed int, err error) {
	names := groupsOf(wish)
	errs := h.read(ctx, names)
	h.report(names)
	failures := listed(names, errs)
	if !wish.Write {
		return 0, errors.Join(failures...)
	}
	var touched []string
	for _, w := range wish.Targets {
		if errs[w.Group] != nil {
			continue
		}
		d, err := compare(h.last[w.Group].Targets, w)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if len(d.kept) > 0 {
			h.opts.Logger.Debug("target kept", "target_group", w.Group, "endpoint", refsText(d.kept), "reason", discovery.ReasonLastTarget)
		}
		if len(d.missing)+len(d.surplus) == 0 {
			continue
		}
		touched = append(touched, w.Group)
		n, err := h.correct(ctx, w, d)
		changed += n
		if err != nil {
			failures = append(failures, err)
		}
	}
	if len(touched) > 0 && ctx.Err() == nil {
		// Also after a failure: a call that timed out may have been done.
		errs = h.read(ctx, touched)
		h.report(names)
		failures = append(failures, listed(touched, errs)...)
	}
	return changed, errors.Join(failures...)
}

// Calls returns what Apply would do now if it were allowed to write. It reads
// AWS but reports nothing, and may run beside Apply.
func (h *Targets) Calls(ctx context.Context, wish discovery.CloudWish) ([]discovery.Call, error) {
	var calls []discovery.Call
	var failures []error
	for _, w := range wish.Targets {
		have, err := h.readOne(ctx, w.Group)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		d, err := compare(have, w)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		add := func(action string, refs []discovery.TargetRef) {
			for chunk := range slices.Chunk(refs, targetsPerCall) {
				calls = append(calls, discovery.Call{
					Service: service, Action: action, Object: w.Group, Detail: refsText(chunk), Reason: w.Reason,
				})
			}
		}
		add("RegisterTargets", d.missing)
		add("DeregisterTargets", d.surplus)
	}
	return calls, errors.Join(failures...)
}

// correct registers, and deregisters only when everything is registered.
func (h *Targets) correct(ctx context.Context, w discovery.TargetWish, d difference) (changed int, err error) {
	start := h.opts.Now()
	for chunk := range slices.Chunk(d.missing, targetsPerCall) {
		if err := h.register(ctx, w.Group, chunk); err != nil {
			return changed, fmt.Errorf("register targets in %s: %w", w.Group, err)
		}
		changed += len(chunk)
	}
	for chunk := range slices.Chunk(d.surplus, targetsPerCall) {
		in := &elbv2.DeregisterTargetsInput{TargetGroupArn: aws.String(w.Group), Targets: descriptions(chunk, nil)}
		if err := write(ctx, h.opts.API.DeregisterTargets, in); err != nil {
			return changed, fmt.Errorf("deregister targets from %s: %w", w.Group, err)
		}
		changed += len(chunk)
	}
	h.opts.Logger.Info("targets changed", "target_group", w.Group, "registered", refsText(d.missing),
		"deregistered", refsText(d.surplus), "reason", w.Reason, "took", h.opts.Now().Sub(start))
	return changed, nil
}

// register tries all zones, and real zones when the group refuses that.
func (h *Targets) register(ctx context.Context, group string, refs []discovery.TargetRef) error {
	in := &elbv2.RegisterTargetsInput{TargetGroupArn: aws.String(group), Targets: descriptions(refs, []string{allZones})}
	err := write(ctx, h.opts.API.RegisterTargets, in)
	if !wantsZone(err) {
		return advised(err)
	}
	zones, zerr := zonesOf(ctx, h.opts.API, group)
	if zerr != nil {
		return fmt.Errorf("%w (switch cross-zone load balancing on for this target group): %w", err, zerr)
	}
	h.opts.Logger.Warn("cross-zone load balancing is off, targets are dealt over zones", "target_group", group, "zones", zones)
	in.Targets = descriptions(refs, zones)
	if err := write(ctx, h.opts.API.RegisterTargets, in); err != nil {
		return fmt.Errorf("with zones %v, as cross-zone load balancing is off: %w", zones, advised(err))
	}
	return nil
}

// groupsOf names all target groups of a wish, sorted.
func groupsOf(wish discovery.CloudWish) []string {
	names := slices.Clone(wish.Read.Groups)
	for _, w := range wish.Targets {
		names = append(names, w.Group)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// read reads groups into last: a failure keeps the last good reading.
func (h *Targets) read(ctx context.Context, names []string) map[string]error {
	errs := map[string]error{}
	for _, name := range names {
		targets, err := h.readOne(ctx, name)
		g := h.last[name]
		g.ID = name
		if err != nil {
			errs[name] = err
			g.Err = err.Error()
		} else {
			g = discovery.TargetGroup{ID: name, Read: h.opts.Now(), Targets: targets}
		}
		h.last[name] = g
	}
	return errs
}

func (h *Targets) readOne(ctx context.Context, name string) ([]discovery.Target, error) {
	out, err := read(ctx, h.opts.API.DescribeTargetHealth, &elbv2.DescribeTargetHealthInput{TargetGroupArn: aws.String(name)})
	if err != nil {
		return nil, fmt.Errorf("describe target health of %s: %w", name, err)
	}
	targets, err := targetsOf(out.TargetHealthDescriptions)
	if err != nil {
		return nil, fmt.Errorf("describe target health of %s: %w", name, err)
	}
	return targets, nil
}

func (h *Targets) report(names []string) {
	kept := make(map[string]discovery.TargetGroup, len(names))
	out := make([]discovery.TargetGroup, 0, len(names))
	for _, name := range names {
		g := h.last[name]
		kept[name] = g
		g.Targets = slices.Clone(g.Targets)
		out = append(out, g)
	}
	h.last = kept
	if h.opts.Report != nil {
		h.opts.Report(out)
	}
}
