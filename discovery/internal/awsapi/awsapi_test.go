package awsapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"drawbridge/discovery"
)

func TestTranslate(t *testing.T) {
	api := func(status int, code string) error {
		return &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      &smithy.GenericAPIError{Code: code, Message: "words"},
		}
	}
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"nil", nil, nil},
		{"elb throttled", api(400, "Throttling"), discovery.ErrThrottled},
		{"documented throttled", api(400, "ThrottlingException"), discovery.ErrThrottled},
		{"ec2 throttled", api(503, "RequestLimitExceeded"), discovery.ErrThrottled},
		{"429", api(429, "Whatever"), discovery.ErrThrottled},
		{"denied", api(403, "AccessDenied"), discovery.ErrDenied},
		{"ec2 denied", api(403, "UnauthorizedOperation"), discovery.ErrDenied},
		{"expired", api(403, "ExpiredToken"), discovery.ErrDenied},
		{"rule", api(400, "RuleNotFound"), discovery.ErrNotFound},
		{"table", api(400, "InvalidRouteTableID.NotFound"), discovery.ErrNotFound},
		{"health", api(500, "HealthUnavailable"), discovery.ErrUnavailable},
		{"html 502", api(502, "UnknownError"), discovery.ErrUnavailable},
		{"validation", api(400, "ValidationError"), discovery.ErrRefused},
		{"quota", api(400, "TooManyTargets"), discovery.ErrRefused},
		{"deadline", context.DeadlineExceeded, discovery.ErrUnavailable},
		{"eof", io.ErrUnexpectedEOF, discovery.ErrUnavailable},
	} {
		if got := Translate(tt.err); !errors.Is(got, tt.want) || (got == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if ReadTwice.IsErrorRetryable(api(400, "Throttling")) || !ReadTwice.IsErrorRetryable(api(500, "InternalFailure")) {
		t.Error("a throttled read is repeated, or a hiccup is not")
	}
}
