package awsid

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxSkew is how far a signature's time may be from ours. AWS draws the line
// at five minutes for most services.
const maxSkew = 5 * time.Minute

const amzDate = "20060102T150405Z"

// What the signature must cover, in the order of SignedHeaders. The length of
// the body may be covered too: the body is fixed.
var (
	mustSign = []string{"accept", "content-type", "host", "x-amz-date", "x-drawbridge-challenge"}
	maySign  = []string{"content-length"}
)

const signedToken = "x-amz-security-token"

// check is all that can be known of a proof without asking AWS. It fails with
// ErrMalformed, ErrChallenge or ErrClock.
func (p Proof) check(challenge []byte, now time.Time) error {
	if err := p.wellFormed(); err != nil {
		return err
	}
	date := p.Headers[headerDate]
	signed, err := time.Parse(amzDate, date)
	if err != nil || signed.Format(amzDate) != date {
		return fmt.Errorf("%w: X-Amz-Date is not of the form %s", ErrMalformed, amzDate)
	}
	a, err := parseAuthorization(p.Headers[headerAuthorization])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := p.covered(a); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	want, err := challengeValue(challenge)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(p.Headers[headerChallenge]), []byte(want)) != 1 {
		return fmt.Errorf("%w: it was made for another connection, or long ago; ask for a new challenge", ErrChallenge)
	}
	if away := now.Sub(signed); away > maxSkew || away < -maxSkew {
		return fmt.Errorf("%w: the host signed at %s by its clock, here it is %s; at most %v apart are allowed: set the clocks by NTP",
			ErrClock, signed.Format(time.RFC3339), now.UTC().Format(time.RFC3339), maxSkew)
	}
	return nil
}

// covered checks that the signature is for STS in the region of the proof, and
// over every header that matters.
func (p Proof) covered(a authorization) error {
	switch {
	case a.service != stsService:
		return fmt.Errorf("it is signed for the service %.40q, not for sts", a.service)
	case a.region != p.Region:
		return fmt.Errorf("it is signed for the region %.40q, but says %s", a.region, p.Region)
	case a.date != p.Headers[headerDate][:len(a.date)]:
		return fmt.Errorf("it is scoped to the day %s, but signed on another", a.date)
	}
	must := mustSign
	if _, ok := p.Headers[headerToken]; ok {
		must = append(slices.Clone(must), signedToken)
	}
	for _, name := range must {
		if !slices.Contains(a.signed, name) {
			return fmt.Errorf("the signature does not cover %s", name)
		}
	}
	for _, name := range a.signed {
		if !slices.Contains(must, name) && !slices.Contains(maySign, name) {
			return fmt.Errorf("the signature covers %.40q, which is not part of the request (%s)", name, strings.Join(must, ", "))
		}
	}
	return nil
}
