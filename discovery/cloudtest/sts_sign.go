package cloudtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sigSkew is how old a signature may be, or how far in the future (IAM user
// guide, "Troubleshoot Signature Version 4": 5 minutes; some services allow
// 15).
const sigSkew = 5 * time.Minute

const amzDate = "20060102T150405Z"

// authentic verifies the signature of a request to STS and returns whose it
// is. The rules and words are those of the IAM user guide, "Signature Version
// 4 for API requests" and its troubleshooting, and of the STS API reference,
// "Common errors".
func (c *Cloud) authentic(r *http.Request, body []byte) (AccessKey, error) {
	svc, err := c.signedFor(r)
	if err != nil {
		return AccessKey{}, err
	}
	if svc != "sts" || foreignHost(r.Host, c.opts.Region) {
		return AccessKey{}, fail(403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'.")
	}
	credential, names, signature, err := authorization(r)
	if err != nil {
		return AccessKey{}, err
	}
	scope := strings.SplitN(credential, "/", 2)
	c.mu.Lock()
	key, ok := c.keys[scope[0]]
	c.mu.Unlock()
	token := r.Header.Get("X-Amz-Security-Token")
	if !ok || key.Token != token {
		return AccessKey{}, fail(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	now := time.Now()
	if !key.Expires.IsZero() && !now.Before(key.Expires) {
		return AccessKey{}, fail(403, "ExpiredToken", "The security token included in the request is expired")
	}
	date := r.Header.Get("X-Amz-Date")
	signed, err := time.Parse(amzDate, date)
	if err != nil {
		return AccessKey{}, fail(400, "IncompleteSignature", "Date must be in ISO-8601 'basic format'. Got '%s'.", date)
	}
	if err := fresh(signed, now); err != nil {
		return AccessKey{}, err
	}
	canonical := canonicalRequest(r, names, body)
	toSign := "AWS4-HMAC-SHA256\n" + date + "\n" + scope[1] + "\n" + hexSum(canonical)
	want := hex.EncodeToString(mac(derivedKey(key.Secret, scope[1]), toSign))
	if !hmac.Equal([]byte(want), []byte(signature)) {
		// AWS really spells out the request, with all that was signed.
		return AccessKey{}, fail(403, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. "+
				"Consult the service documentation for details.\n\nThe Canonical String for this request should have been\n'%s'\n\n"+
				"The String-to-Sign should have been\n'%s'\n", canonical, toSign)
	}
	return key, nil
}

// foreignHost: a name of AWS that is not STS's of the region.
func foreignHost(host, region string) bool {
	name, ours := strings.CutSuffix(strings.TrimSuffix(host, ".cn"), ".amazonaws.com")
	return ours && name != "sts."+region
}

func fresh(signed, now time.Time) error {
	now = now.UTC()
	least, most := now.Add(-sigSkew), now.Add(sigSkew)
	switch {
	case signed.Before(least):
		return fail(403, "SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			signed.Format(amzDate), least.Format(amzDate), now.Format(amzDate))
	case signed.After(most):
		return fail(403, "SignatureDoesNotMatch", "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			signed.Format(amzDate), most.Format(amzDate), now.Format(amzDate))
	}
	return nil
}

// authorization takes the header apart; signedFor has seen that it has its
// parts. Names must be sorted, each once, and cover host and every x-amz-
// header of the request.
func authorization(r *http.Request) (credential string, names []string, signature string, err error) {
	if len(r.Header.Values("Authorization")) != 1 {
		return "", nil, "", fail(400, "IncompleteSignature", "there are two Authorization headers")
	}
	for p := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		switch k {
		case "Credential":
			credential = v
		case "SignedHeaders":
			names = strings.Split(v, ";")
		case "Signature":
			signature = v
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || !slices.Contains(names, "host") {
		return "", nil, "", fail(400, "IncompleteSignature", "'SignedHeaders' must be sorted, without doubles, and contain 'Host'.")
	}
	for name := range r.Header {
		low := strings.ToLower(name)
		if strings.HasPrefix(low, "x-amz-") && !slices.Contains(names, low) {
			return "", nil, "", fail(403, "SignatureDoesNotMatch", "'%s' must be a 'SignedHeader' in the AWS Authorization.", low)
		}
	}
	return credential, names, signature, nil
}

// canonicalRequest is the request as the signer saw it.
func canonicalRequest(r *http.Request, names []string, body []byte) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n")
	for _, name := range names {
		values := r.Header.Values(name)
		switch name {
		case "host": // net/http takes both out of the headers
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		b.WriteString(name + ":" + strings.Join(trimmed, ",") + "\n")
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + hexSum(string(body)))
	return b.String()
}

// derivedKey is the signing key of a scope: date/region/service/aws4_request.
func derivedKey(secret, scope string) []byte {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // a hash does not fail
	return h.Sum(nil)
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
