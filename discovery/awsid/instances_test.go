package awsid

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
	"drawbridge/discovery/cloudtest"
	"drawbridge/discovery/internal/mototest"
)

// id makes the id of an instance.
func id(n int) string { return fmt.Sprintf("i-%017x", n) }

func instancesOn(t *testing.T, url string) *Instances {
	t.Helper()
	alone(t, "AWS_ACCESS_KEY_ID", userKey.ID, "AWS_SECRET_ACCESS_KEY", userKey.Secret)
	i, err := NewInstances(t.Context(), InstancesOptions{Region: "us-east-1", EndpointURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func instanceCloud(t *testing.T) (*cloudtest.Cloud, *Instances) {
	t.Helper()
	c := cloudtest.New(cloudtest.Options{})
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	for n, state := range []string{"pending", "running", "shutting-down", "terminated", "stopping", "stopped"} {
		c.SetInstance(id(n), state)
	}
	return c, instancesOn(t, srv.URL)
}

func TestGone(t *testing.T) {
	every := map[string]bool{id(0): false, id(1): false, id(2): false, id(3): true, id(4): false, id(5): false}
	for _, tt := range []struct {
		name  string
		ids   []string
		want  map[string]bool
		calls int
		words string // of the error
	}{
		{"none", nil, map[string]bool{}, 0, ""},
		{"every state", []string{id(5), id(4), id(3), id(2), id(1), id(0)}, every, 1, ""},
		{"twice", []string{id(1), id(1)}, map[string]bool{id(1): false}, 1, ""},
		{"one missing", []string{id(9)}, map[string]bool{id(9): true}, 1, ""},
		{"some missing", []string{id(9), id(1), id(8), id(3)}, map[string]bool{id(9): true, id(1): false, id(8): true, id(3): true}, 4, ""},
		{"short id", []string{"i-01234567", id(1)}, map[string]bool{"i-01234567": true, id(1): false}, 3, ""},
		{"malformed", []string{"i-1", id(1), "mi-0123456789abcdef0", "", "i-0123456789abcdef0\n"}, map[string]bool{id(1): false}, 1, `"i-1" is not the id of an instance`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, i := instanceCloud(t)
			got, err := i.Gone(t.Context(), tt.ids)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err == nil) != (tt.words == "") || (err != nil && !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("%v", err)
			}
			if n := len(c.Calls()); n != tt.calls {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// Whatever happens to the answer, nobody is gone.
func TestDoubtIsNotGone(t *testing.T) {
	found := func(state string) string {
		return "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>" + id(9) + "</instanceId>" + state + "</item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
	}
	for _, tt := range []struct {
		name  string
		fault cloudtest.Fault
		want  error
	}{
		{"throttled", cloudtest.Fault{Code: "RequestLimitExceeded", HTTPStatus: 503}, discovery.ErrThrottled},
		{"denied", cloudtest.Fault{Code: "UnauthorizedOperation", HTTPStatus: 403}, discovery.ErrDenied},
		{"5xx", cloudtest.Fault{Code: "InternalError", HTTPStatus: 500}, discovery.ErrUnavailable},
		{"malformed", cloudtest.Fault{Code: "InvalidInstanceID.Malformed"}, discovery.ErrRefused},
		{"something else not found", cloudtest.Fault{Code: "InvalidVpcID.NotFound"}, discovery.ErrNotFound},
		{"html", cloudtest.Fault{Garbage: "<html><body>proxy</body></html>"}, discovery.ErrUnavailable},
		{"html 404", cloudtest.Fault{Garbage: "<html>Not Found</html>", HTTPStatus: 404}, discovery.ErrUnavailable},
		{"empty", cloudtest.Fault{Garbage: "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"}, discovery.ErrUnavailable},
		{"no state", cloudtest.Fault{Garbage: found("")}, discovery.ErrUnavailable},
		{"new state", cloudtest.Fault{Garbage: found("<instanceState><code>99</code><name>hibernated</name></instanceState>")}, discovery.ErrUnavailable},
		{"no answer", cloudtest.Fault{Drop: true}, discovery.ErrUnavailable},
		{
			"about another", cloudtest.Fault{
				Garbage:    "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>The instance ID '" + id(7) + "' does not exist</Message></Error></Errors></Response>",
				HTTPStatus: 400,
			}, discovery.ErrUnavailable,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, i := instanceCloud(t)
			tt.fault.Count = -1
			c.Inject(tt.fault)
			got, err := i.Gone(t.Context(), []string{id(9)})
			if len(got) != 0 || !errors.Is(err, tt.want) {
				t.Errorf("%v %v, want %v", got, err, tt.want)
			}
		})
	}
}

// Throttled in the middle: what is known is told, the rest is unknown.
func TestGoneStopsWhenThrottled(t *testing.T) {
	c, i := instanceCloud(t)
	n := 0
	api := i.api
	i.api = calls(func(ctx context.Context, in *ec2.DescribeInstancesInput, opts ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
		if n++; n == 4 {
			c.Inject(cloudtest.Fault{Code: "RequestLimitExceeded", HTTPStatus: 503, Count: -1})
		}
		return api.DescribeInstances(ctx, in, opts...)
	})
	got, err := i.Gone(t.Context(), []string{id(1), id(7), id(8), id(9)})
	if diff := cmp.Diff(map[string]bool{id(1): false, id(7): true}, got); diff != "" || !errors.Is(err, discovery.ErrThrottled) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if n != 4 {
		t.Errorf("%d calls: nobody asks on when throttled", n)
	}
}

type calls func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)

func (f calls) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, opts ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return f(ctx, in, opts...)
}

// The message of NotFound is for people: whatever it says or leaves out, the
// answers are right and the calls few.
func TestGoneReadsMessagesCarefully(t *testing.T) {
	alive := map[string]bool{id(1): true, id(2): true}
	ids := []string{id(1), id(2), id(8), id(9)}
	for _, tt := range []struct {
		name    string
		message func(missing []string) string
		calls   int
	}{
		{"all named", func(m []string) string { return "The instance IDs '" + strings.Join(m, ", ") + "' do not exist" }, 4},
		{"one named", func(m []string) string { return "The instance ID '" + m[0] + "' does not exist" }, 6},
		{"none named", func([]string) string { return "Not found" }, 5},
		{"no words", func([]string) string { return "" }, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			i, err := NewInstances(t.Context(), InstancesOptions{API: calls(func(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
				n++
				var missing []string
				var r types.Reservation
				for _, x := range in.InstanceIds {
					if !alive[x] {
						missing = append(missing, x)
					}
					r.Instances = append(r.Instances, types.Instance{InstanceId: aws.String(x), State: &types.InstanceState{Name: types.InstanceStateNameRunning}})
				}
				if missing != nil {
					return nil, &smithy.GenericAPIError{Code: "InvalidInstanceID.NotFound", Message: tt.message(missing)}
				}
				return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{r}}, nil
			})})
			if err != nil {
				t.Fatal(err)
			}
			got, err := i.Gone(t.Context(), ids)
			want := map[string]bool{id(1): false, id(2): false, id(8): true, id(9): true}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
		})
	}
}

// A hundred at a time, a thousand at most. The wire has its own tests; this one
// counts calls, and a connection that breaks would be asked again.
func TestGoneIsBounded(t *testing.T) {
	var asked [][]string
	i, err := NewInstances(t.Context(), InstancesOptions{API: calls(func(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
		if !aws.ToBool(in.IncludeManagedResources) {
			t.Error("not all kinds of instances")
		}
		asked = append(asked, in.InstanceIds)
		var r types.Reservation
		for _, x := range in.InstanceIds {
			r.Instances = append(r.Instances, types.Instance{InstanceId: aws.String(x), State: &types.InstanceState{Name: types.InstanceStateNameRunning}})
		}
		return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{r}}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for n := range MaxInstances {
		ids = append(ids, id(n))
	}
	got, err := i.Gone(t.Context(), ids)
	if len(got) != MaxInstances || err != nil || len(asked) != 10 {
		t.Errorf("%d answers in %d calls, %v", len(got), len(asked), err)
	}
	for _, call := range asked {
		if len(call) != 100 {
			t.Errorf("%d in one call, want a hundred", len(call))
		}
	}
	asked = nil
	if got, err := i.Gone(t.Context(), append(ids, id(5000))); len(got) != 0 || err == nil || len(asked) != 0 {
		t.Errorf("%d answers in %d calls, %v", len(got), len(asked), err)
	}
}

func TestNewInstancesWantsARegion(t *testing.T) {
	alone(t)
	if _, err := NewInstances(t.Context(), InstancesOptions{}); err == nil || !strings.Contains(err.Error(), "region") {
		t.Error(err)
	}
}

// Moto is a second opinion on the form of questions and answers.
func TestGoneOnMoto(t *testing.T) {
	url := mototest.Start(t)
	var made struct {
		IDs []string `xml:"instancesSet>item>instanceId"`
	}
	mototest.Call(t, url, "ec2", "2016-11-15", &made, "Action", "RunInstances", "ImageId", "ami-12c6146b", "InstanceType", "t3.micro", "MinCount", "3", "MaxCount", "3")
	if len(made.IDs) != 3 {
		t.Fatalf("moto made %v", made.IDs)
	}
	var done struct{}
	mototest.Call(t, url, "ec2", "2016-11-15", &done, "Action", "TerminateInstances", "InstanceId.1", made.IDs[1])
	mototest.Call(t, url, "ec2", "2016-11-15", &done, "Action", "StopInstances", "InstanceId.1", made.IDs[2])
	got, err := instancesOn(t, url).Gone(t.Context(), append(made.IDs, id(1), id(2)))
	want := map[string]bool{made.IDs[0]: false, made.IDs[1]: true, made.IDs[2]: false, id(1): true, id(2): true}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
