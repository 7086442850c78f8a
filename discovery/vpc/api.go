package vpc

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"drawbridge/discovery/internal/awsapi"
)

const service = "ec2"

// API is what the hand needs of the SDK's client.
type API interface {
	DescribeRouteTables(ctx context.Context, in *ec2.DescribeRouteTablesInput, opts ...func(*ec2.Options)) (*ec2.DescribeRouteTablesOutput, error)
	CreateRoute(ctx context.Context, in *ec2.CreateRouteInput, opts ...func(*ec2.Options)) (*ec2.CreateRouteOutput, error)
	ReplaceRoute(ctx context.Context, in *ec2.ReplaceRouteInput, opts ...func(*ec2.Options)) (*ec2.ReplaceRouteOutput, error)
}

var _ API = (*ec2.Client)(nil)

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
	return ec2.NewFromConfig(cfg, func(opts *ec2.Options) {
		if o.EndpointURL != "" {
			opts.BaseEndpoint = aws.String(o.EndpointURL)
		}
	}), nil
}

func reading(o *ec2.Options) { o.Retryer = awsapi.ReadTwice }
func writing(o *ec2.Options) { o.Retryer = awsapi.WriteOnce }

// read makes one reading call within its deadline.
func read[In, Out any](ctx context.Context, call func(context.Context, In, ...func(*ec2.Options)) (Out, error), in In) (Out, error) {
	ctx, cancel := context.WithTimeout(ctx, awsapi.ReadTimeout)
	defer cancel()
	out, err := call(ctx, in, reading)
	return out, awsapi.Translate(err)
}

// write makes one writing call within its deadline, unless ctx is over: the
// lease may have gone with it.
func write[In, Out any](ctx context.Context, call func(context.Context, In, ...func(*ec2.Options)) (Out, error), in In) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, awsapi.WriteTimeout)
	defer cancel()
	_, err := call(ctx, in, writing)
	return awsapi.Translate(err)
}
