package awsid

import (
	"errors"
	"regexp"
	"strings"
)

// maxAuthorization bounds the header; the SDK's is about 300 bytes.
const maxAuthorization = 1024

// authorization is an Authorization header of Signature Version 4.
type authorization struct {
	key       string // access key id
	date      string // of the credential scope, YYYYMMDD
	region    string
	service   string
	signed    []string // names of the signed headers, sorted
	signature string
}

// The one spelling that the SDKs use. AWS reads more, which nobody needs: what
// has one spelling cannot be read in two ways.
var authorizationForm = regexp.MustCompile(`^AWS4-HMAC-SHA256 ` +
	`Credential=([A-Za-z0-9_]{16,128})/([0-9]{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ` +
	`SignedHeaders=([a-z0-9-]+(?:;[a-z0-9-]+)*), ` +
	`Signature=([0-9a-f]{64})$`)

func parseAuthorization(s string) (authorization, error) {
	if len(s) > maxAuthorization {
		return authorization{}, errors.New("the Authorization header is too long")
	}
	m := authorizationForm.FindStringSubmatch(s)
	if m == nil {
		return authorization{}, errors.New("the Authorization header is not AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature")
	}
	a := authorization{m[1], m[2], m[3], m[4], strings.Split(m[5], ";"), m[6]}
	for i := 1; i < len(a.signed); i++ {
		if a.signed[i] <= a.signed[i-1] {
			return authorization{}, errors.New("the signed headers are not sorted, or one is named twice")
		}
	}
	return a, nil
}

func (a authorization) String() string {
	return "AWS4-HMAC-SHA256 Credential=" + a.key + "/" + a.date + "/" + a.region + "/" + a.service + "/aws4_request, " +
		"SignedHeaders=" + strings.Join(a.signed, ";") + ", Signature=" + a.signature
}
