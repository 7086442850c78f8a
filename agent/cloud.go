package agent

import (
	"context"
	"errors"
	"log/slog"

	"drawbridge/agent/config"
	"drawbridge/agent/reconcile"
	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/discovery/elb"
	"drawbridge/discovery/vpc"
)

// cloud is AWS as this gateway handles it: three hands with a loop each, so
// that a slow registration never delays a weight.
type cloud struct {
	weights  *elb.Weights
	targets  *elb.Targets
	nextHops *vpc.NextHops
	all      []*reconcile.Loop[discovery.CloudWish]
}

// newCloud makes clients and hands; nothing is called yet.
func newCloud(ctx context.Context, c config.AWS, w *world.World, report func(reconcile.Outcome), log *slog.Logger) (*cloud, error) {
	elbAPI, err := elb.NewClient(ctx, elb.ClientOptions{Region: c.Region, EndpointURL: c.EndpointURL})
	if err != nil {
		return nil, err
	}
	ec2API, err := vpc.NewClient(ctx, vpc.ClientOptions{Region: c.Region, EndpointURL: c.EndpointURL})
	if err != nil {
		return nil, err
	}
	k := &cloud{
		weights:  elb.NewWeights(elb.WeightsOptions{API: elbAPI, Report: w.Splits, Logger: log.With("room", "elb")}),
		targets:  elb.NewTargets(elb.TargetsOptions{API: elbAPI, Report: w.Groups, Logger: log.With("room", "elb")}),
		nextHops: vpc.NewNextHops(vpc.Options{API: ec2API, Report: w.NextHops, Logger: log.With("room", "vpc")}),
	}
	k.all = []*reconcile.Loop[discovery.CloudWish]{
		loop("weights", k.weights.Apply, c.Poll, report, log),
		loop("targets", k.targets.Apply, c.Poll, report, log),
		loop("next-hops", k.nextHops.Apply, c.Poll, report, log),
	}
	return k, nil
}

func (k *cloud) loops() []*reconcile.Loop[discovery.CloudWish] { return k.all }

// calls are what the hands would do for the wish now. It reads AWS.
func (k *cloud) calls(ctx context.Context, wish discovery.CloudWish) ([]discovery.Call, error) {
	var out []discovery.Call
	var errs []error
	for _, plan := range []func(context.Context, discovery.CloudWish) ([]discovery.Call, error){
		k.weights.Calls, k.targets.Calls, k.nextHops.Calls,
	} {
		calls, err := plan(ctx, wish)
		out, errs = append(out, calls...), append(errs, err)
	}
	return out, errors.Join(errs...)
}
