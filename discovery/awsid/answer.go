package awsid

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// answer is what STS says of a caller. The id of the user is read and dropped:
// it names the same thing in another way.
type answer struct{ account, arn string }

// parseAnswer reads the JSON form of GetCallerIdentityResponse, and nothing
// that looks like it.
func parseAnswer(b []byte) (answer, error) {
	r, err := newReader(b)
	if err != nil {
		return answer{}, err
	}
	var a answer
	var user, id string
	member := func(name string, into map[string]*string) error {
		s, ok := into[name]
		if !ok {
			return unknown(name)
		}
		return r.text(s)
	}
	err = r.object(func(name string) error {
		if name != "GetCallerIdentityResponse" {
			return unknown(name)
		}
		return r.object(func(name string) error {
			switch name {
			case "GetCallerIdentityResult":
				return r.object(func(name string) error {
					return member(name, map[string]*string{"Account": &a.account, "Arn": &a.arn, "UserId": &user})
				})
			case "ResponseMetadata":
				return r.object(func(name string) error {
					return member(name, map[string]*string{"RequestId": &id})
				})
			}
			return unknown(name)
		})
	})
	switch {
	case err != nil:
		return answer{}, err
	case !accountID.MatchString(a.account) || a.arn == "" || user == "":
		return answer{}, errors.New("it lacks an account of 12 digits, an ARN or a user id")
	}
	return a, nil
}

// The code and the beginning of the message in an error of AWS's, in JSON or
// XML. The rest of the message is not repeated: for SignatureDoesNotMatch AWS
// spells out the whole request there, session token included.
var (
	errorCode   = regexp.MustCompile(`(?:"Code"\s*:\s*"|<Code>)([A-Za-z][A-Za-z.]{1,63})["<]`)
	errorExpiry = regexp.MustCompile(`(?:"[Mm]essage"\s*:\s*"|<Message>)Signature (expired|not yet current)`)
)

// remedies are the refusals that STS documents (STS API reference, common
// errors), and what to do.
var remedies = map[string]string{
	"AccessDenied":                "a policy forbids it",
	"ExpiredToken":                "the host's credentials have expired; let it try again with fresh ones",
	"ExpiredTokenException":       "the host's credentials have expired; let it try again with fresh ones",
	"IncompleteSignature":         "the signature is not whole",
	"InvalidClientTokenId":        "AWS knows no such access key, or the session token is another's; look at the host's role, and whether its region is enabled",
	"MissingAuthenticationToken":  "the signature is not whole",
	"OptInRequired":               "the region is not enabled for the host's account; set AWS_REGION on the host",
	"RegionDisabledException":     "the region is not enabled for the host's account; set AWS_REGION on the host",
	"SignatureDoesNotMatch":       "it was altered, or signed with another secret key",
	"UnrecognizedClientException": "AWS knows no such access key",
}

// refusal turns an answer that is not 200 into an error. Only AWS's own words
// against the proof count as such: what a box on the way says is no answer.
func refusal(where string, status int, body []byte) error {
	m := errorCode.FindSubmatch(body)
	if m == nil {
		return fmt.Errorf("%w: %s answered with HTTP status %d and no AWS error", ErrUnreachable, where, status)
	}
	code := string(m[1])
	remedy, known := remedies[code]
	switch {
	case status < http.StatusBadRequest || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests,
		strings.HasPrefix(code, "Throttl"), code == "RequestLimitExceeded":
		return fmt.Errorf("%w: %s answered with HTTP status %d, %s; try again later", ErrUnreachable, where, status, code)
	case code == "RequestExpired", errorExpiry.Match(body):
		return fmt.Errorf("%w: STS calls the signature too old or not yet valid (%s), though it is of now by this gateway's clock: set the clocks by NTP", ErrClock, code)
	case known:
		return fmt.Errorf("%w: %s: %s", ErrNotAuthentic, code, remedy)
	case status == http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrNotAuthentic, code)
	}
	return fmt.Errorf("%w: %s answered with HTTP status %d, %s", ErrUnreachable, where, status, code)
}
