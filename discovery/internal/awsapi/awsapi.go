// Package awsapi is the tool that the AWS hands share: the client
// configuration, the deadlines and attempts of calls, and the translation of
// foreign errors into the dictionary's sentinels.
//
// It promises that every call has a deadline, that a write is sent once (the
// hand's loop repeats it after reading reality again; SDK retries would
// outlive a lease), and that nonsense from the network is ErrUnavailable,
// never an empty answer.
//
// It owns nothing outside the process and imports the dictionary and the core
// of the AWS SDK. It never calls AWS itself.
package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"drawbridge/discovery"
)

// Deadlines and attempts of one call. A write is called within 1 s of the
// lease's last renewal and must be over before the lease could have passed on.
const (
	ReadTimeout  = 2 * time.Second
	WriteTimeout = 1500 * time.Millisecond

	readAttempts = 2
	readPause    = 50 * time.Millisecond
)

// WriteOnce is the retryer of writes: none.
var WriteOnce aws.Retryer = aws.NopRetryer{}

// ReadTwice is the retryer of reads: a second attempt soon after the first,
// for a connection that had gone stale or a server that hiccuped. A throttled
// call is not repeated; the hand's loop backs off.
var ReadTwice aws.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
	o.MaxAttempts = readAttempts
	o.RateLimiter = ratelimit.None
	o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return readPause, nil })
	notThrottled := retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
		if errors.Is(Translate(err), discovery.ErrThrottled) {
			return aws.FalseTernary
		}
		return aws.UnknownTernary
	})
	o.Retryables = append([]retry.IsErrorRetryable{notThrottled}, o.Retryables...)
})

// Load reads the default chain of AWS configuration: environment, shared
// files, container and instance roles. region "" leaves the choice to it.
func Load(ctx context.Context, region string) (aws.Config, error) {
	var opts []func(*config.LoadOptions) error
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return cfg, fmt.Errorf("load aws configuration: %w", err)
	}
	if cfg.Region == "" {
		return cfg, errors.New("load aws configuration: no region; set it in the configuration or AWS_REGION")
	}
	return cfg, nil
}

// denied are the codes of refused identity or right (IAM user guide, common
// errors of the query protocol, EC2 error codes).
var denied = map[string]bool{
	"AccessDenied": true, "AccessDeniedException": true, "UnauthorizedOperation": true,
	"UnauthorizedAccess": true, "AuthFailure": true, "Blocked": true, "OptInRequired": true,
	"InvalidClientTokenId": true, "UnrecognizedClientException": true, "SignatureDoesNotMatch": true,
	"IncompleteSignature": true, "MissingAuthenticationToken": true, "ExpiredToken": true,
	"ExpiredTokenException": true, "RequestExpired": true, "NotAuthorized": true,
}

// Translate turns an error of the SDK into one that wraps a sentinel of the
// dictionary. nil stays nil.
func Translate(err error) error {
	if err == nil {
		return nil
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%w: %s: %s", sentinel(api.ErrorCode(), status(err)), api.ErrorCode(), api.ErrorMessage())
	}
	// The SDK gives this error no type of its own.
	if strings.Contains(err.Error(), "get identity: get credentials") {
		return fmt.Errorf("%w: this host has no AWS credentials; attach a role to the instance, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", discovery.ErrUnavailable, err)
	}
	if api, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && api.HTTPStatusCode() != 0 {
		return fmt.Errorf("%w: HTTP status %d without an AWS error: %w", discovery.ErrUnavailable, api.HTTPStatusCode(), api.Err)
	}
	return fmt.Errorf("%w: %w", discovery.ErrUnavailable, err)
}

func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return r.HTTPStatusCode()
	}
	return 0
}

func sentinel(code string, status int) error {
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case throttled || status == http.StatusTooManyRequests:
		return discovery.ErrThrottled
	case denied[code]:
		return discovery.ErrDenied
	// RuleNotFound, TargetGroupNotFound, InvalidRouteTableID.NotFound,
	// InvalidNetworkInterfaceID.NotFound; a missing credential provider is not.
	case strings.HasSuffix(code, "NotFound"), strings.HasSuffix(code, "NotFoundException"):
		return discovery.ErrNotFound
	// HealthUnavailable is a 500: it says nothing about targets.
	case status >= http.StatusInternalServerError, status < http.StatusBadRequest, code == "UnknownError":
		return discovery.ErrUnavailable
	}
	return discovery.ErrRefused
}
