package cloudtest

import (
	"net/http"
	"strings"
)

// signedFor checks that the request carries a Signature Version 4 with a
// sensible scope (AWS General Reference, "Signing AWS API requests") and
// returns the service it was signed for. The signature is not verified.
func (c *Cloud) signedFor(r *http.Request) (string, error) {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		return "", fail(http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token")
	}
	rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", fail(400, "IncompleteSignature", "the signature is not AWS4-HMAC-SHA256")
	}
	part := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		part[k] = v
	}
	if part["Signature"] == "" || !strings.Contains(part["SignedHeaders"], "host") || r.Header.Get("X-Amz-Date") == "" {
		return "", fail(400, "IncompleteSignature", "Authorization wants Signature, SignedHeaders with host, and X-Amz-Date")
	}
	scope := strings.Split(part["Credential"], "/") // key, date, region, service, aws4_request
	if len(scope) != 5 || scope[0] == "" || scope[4] != "aws4_request" {
		return "", fail(400, "IncompleteSignature", "Credential '%s' is not a scope", part["Credential"])
	}
	if !strings.HasPrefix(r.Header.Get("X-Amz-Date"), scope[1]) {
		return "", fail(http.StatusForbidden, "SignatureDoesNotMatch", "Date in Credential scope does not match X-Amz-Date")
	}
	if scope[2] != c.opts.Region {
		return "", fail(http.StatusForbidden, "SignatureDoesNotMatch",
			"Credential should be scoped to a valid region, not '%s'", scope[2])
	}
	if _, ok := services[scope[3]]; !ok {
		return "", fail(http.StatusForbidden, "SignatureDoesNotMatch",
			"Credential should be scoped to correct service, not '%s'", scope[3])
	}
	return scope[3], nil
}
