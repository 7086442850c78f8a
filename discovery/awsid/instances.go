package awsid

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"drawbridge/discovery"
	"drawbridge/discovery/internal/awsapi"
)

// Bounds of a question: ids in one call, and in one Gone.
const (
	instancesPerCall = 100
	MaxInstances     = 1000
)

// notFound is EC2's code for ids that the account and region do not have (EC2
// API reference, error codes).
const notFound = "InvalidInstanceID.NotFound"

var instanceIDs = regexp.MustCompile(`i-[0-9a-f]{8,17}`)

// InstancesAPI is what Instances needs of the SDK's client.
type InstancesAPI interface {
	DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, opts ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

var _ InstancesAPI = (*ec2.Client)(nil)

// InstancesOptions of Instances. The zero value takes everything from the AWS
// default chain.
type InstancesOptions struct {
	Region      string
	EndpointURL string       // "" means AWS's own; a fake's address in labs
	API         InstancesAPI // nil: a client of the SDK
}

// Instances asks EC2 of one account and one region about instances. It is safe
// for concurrent use.
type Instances struct{ api InstancesAPI }

// NewInstances makes the client. It fails when no region is known; credentials
// are looked for at the first call only.
func NewInstances(ctx context.Context, o InstancesOptions) (*Instances, error) {
	if o.API != nil {
		return &Instances{o.API}, nil
	}
	cfg, err := awsapi.Load(ctx, o.Region)
	if err != nil {
		return nil, err
	}
	return &Instances{ec2.NewFromConfig(cfg, func(opts *ec2.Options) {
		if o.EndpointURL != "" {
			opts.BaseEndpoint = aws.String(o.EndpointURL)
		}
	})}, nil
}

// Gone tells of each id whether the instance is terminated or does not exist.
// An id that is not in the answer is unknown, and the error says why; both may
// come together. An instance that is stopped or still shutting down is not
// gone.
//
// Two kinds of living instances do not exist for EC2: those of another account
// or region, and those that were launched seconds ago (EC2 developer guide,
// eventual consistency). The caller asks about instances of this account and
// region only, and not about new ones.
//
// It takes up to one call for each id that does not exist, each of 2 s at
// most, and at most MaxInstances ids.
func (i *Instances) Gone(ctx context.Context, ids []string) (map[string]bool, error) {
	if len(ids) > MaxInstances {
		return nil, fmt.Errorf("describe instances: %d ids, the most is %d", len(ids), MaxInstances)
	}
	gone := map[string]bool{}
	var errs []error
	var asked []string
	for _, id := range ids {
		if !instanceID.MatchString(id) { // one would spoil the call for all
			errs = append(errs, fmt.Errorf("describe instances: %.40q is not the id of an instance", id))
			continue
		}
		asked = append(asked, id)
	}
	slices.Sort(asked)
	for chunk := range slices.Chunk(slices.Compact(asked), instancesPerCall) {
		if err := i.chunk(ctx, chunk, gone); err != nil {
			errs = append(errs, err)
		}
	}
	return gone, errors.Join(errs...)
}

// chunk asks about ids at once. One that does not exist spoils the call; those
// that EC2 names are then asked about alone, and the others once more.
func (i *Instances) chunk(ctx context.Context, ids []string, gone map[string]bool) error {
	if len(ids) == 1 {
		return i.alone(ctx, ids[0], gone)
	}
	err := i.describe(ctx, ids, gone)
	if !isNotFound(err) {
		return translated(err)
	}
	missing, rest := split(ids, err)
	var errs []error
	if len(rest) > 0 {
		if err := i.describe(ctx, rest, gone); isNotFound(err) {
			missing = append(missing, rest...)
		} else if err != nil {
			errs = append(errs, translated(err))
		}
	}
	for _, id := range missing {
		if err := i.alone(ctx, id, gone); err != nil {
			errs = append(errs, err)
			break // the others would meet the same; they stay unknown
		}
	}
	return errors.Join(errs...)
}

// alone asks about one id: only that one can be what was not found.
func (i *Instances) alone(ctx context.Context, id string, gone map[string]bool) error {
	err := i.describe(ctx, []string{id}, gone)
	if !isNotFound(err) {
		return translated(err)
	}
	if missing, _ := split([]string{id}, err); len(missing) == 0 {
		return fmt.Errorf("describe instances: %w: asked for %s, the answer is about another: %w", discovery.ErrUnavailable, id, err)
	}
	gone[id] = true
	return nil
}

// split parts the ids that the error names from the others. An error that
// names no instance may mean any.
func split(ids []string, err error) (named, others []string) {
	var text string
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text = api.ErrorMessage()
	}
	told := instanceIDs.FindAllString(text, -1)
	if len(told) == 0 {
		return ids, nil
	}
	for _, id := range ids {
		if slices.Contains(told, id) {
			named = append(named, id)
		} else {
			others = append(others, id)
		}
	}
	return named, others
}

// describe makes one call within its deadline and notes what it tells. Its
// error is the SDK's.
func (i *Instances) describe(ctx context.Context, ids []string, gone map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, awsapi.ReadTimeout)
	defer cancel()
	out, err := i.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{
		InstanceIds:             ids,
		IncludeManagedResources: aws.Bool(true), // an account may hide them otherwise
	}, func(o *ec2.Options) { o.Retryer = awsapi.ReadTwice })
	if err != nil {
		return err
	}
	state := map[string]types.InstanceStateName{}
	for _, r := range out.Reservations {
		for _, x := range r.Instances {
			if x.State != nil {
				state[aws.ToString(x.InstanceId)] = x.State.Name
			}
		}
	}
	var errs []error
	for _, id := range ids {
		s := state[id]
		if !slices.Contains(s.Values(), s) {
			errs = append(errs, fmt.Errorf("the answer has no state of instance %s", id))
			continue
		}
		gone[id] = s == types.InstanceStateNameTerminated
	}
	return errors.Join(errs...)
}

func isNotFound(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == notFound
}

func translated(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("describe instances: %w", awsapi.Translate(err))
}
