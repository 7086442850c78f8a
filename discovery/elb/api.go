package elb

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"drawbridge/discovery/internal/awsapi"
)

const service = "elasticloadbalancing"

// RuleAPI is what [Weights] needs of the SDK's client.
type RuleAPI interface {
	DescribeRules(ctx context.Context, in *elbv2.DescribeRulesInput, opts ...func(*elbv2.Options)) (*elbv2.DescribeRulesOutput, error)
	ModifyRule(ctx context.Context, in *elbv2.ModifyRuleInput, opts ...func(*elbv2.Options)) (*elbv2.ModifyRuleOutput, error)
}

// TargetAPI is what [Targets] needs of the SDK's client.
type TargetAPI interface {
	DescribeTargetHealth(ctx context.Context, in *elbv2.DescribeTargetHealthInput, opts ...func(*elbv2.Options)) (*elbv2.DescribeTargetHealthOutput, error)
	RegisterTargets(ctx context.Context, in *elbv2.RegisterTargetsInput, opts ...func(*elbv2.Options)) (*elbv2.RegisterTargetsOutput, error)
	DeregisterTargets(ctx context.Context, in *elbv2.DeregisterTargetsInput, opts ...func(*elbv2.Options)) (*elbv2.DeregisterTargetsOutput, error)
	ZoneAPI
}

// ZoneAPI finds the zones of a target group's load balancer.
type ZoneAPI interface {
	DescribeTargetGroups(ctx context.Context, in *elbv2.DescribeTargetGroupsInput, opts ...func(*elbv2.Options)) (*elbv2.DescribeTargetGroupsOutput, error)
	DescribeLoadBalancers(ctx context.Context, in *elbv2.DescribeLoadBalancersInput, opts ...func(*elbv2.Options)) (*elbv2.DescribeLoadBalancersOutput, error)
}

// API is all of it; the SDK's client has it.
type API interface {
	RuleAPI
	TargetAPI
}

var _ API = (*elbv2.Client)(nil)

// ClientOptions of a real client. The zero value takes everything from the
// AWS default chain.
type ClientOptions struct {
	Region      string
	EndpointURL string // "" means AWS's own; a fake's address in labs
}

// NewClient makes a client of the AWS SDK. It fails when no region is known;
// credentials are looked for at the first call only.
func NewClient(ctx context.Context, o ClientOptions) (API, error) {
	cfg, err := awsapi.Load(ctx, o.Region)
	if err != nil {
		return nil, err
	}
	return elbv2.NewFromConfig(cfg, func(opts *elbv2.Options) {
		if o.EndpointURL != "" {
			opts.BaseEndpoint = aws.String(o.EndpointURL)
		}
	}), nil
}

func reading(o *elbv2.Options) { o.Retryer = awsapi.ReadTwice }
func writing(o *elbv2.Options) { o.Retryer = awsapi.WriteOnce }

// read makes one reading call within its deadline.
func read[In, Out any](ctx context.Context, call func(context.Context, In, ...func(*elbv2.Options)) (Out, error), in In) (Out, error) {
	ctx, cancel := context.WithTimeout(ctx, awsapi.ReadTimeout)
	defer cancel()
	out, err := call(ctx, in, reading)
	return out, awsapi.Translate(err)
}

// write makes one writing call within its deadline, unless ctx is over: the
// lease may have gone with it.
func write[In, Out any](ctx context.Context, call func(context.Context, In, ...func(*elbv2.Options)) (Out, error), in In) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, awsapi.WriteTimeout)
	defer cancel()
	_, err := call(ctx, in, writing)
	return awsapi.Translate(err)
}

func loggerOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func clockOr(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
