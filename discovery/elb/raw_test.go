package elb_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// raw calls the fake as another tool would.
func raw(t *testing.T, s stage, action, key, value string, params map[string]string) (string, error) {
	t.Helper()
	vals := url.Values{"Action": {action}, "Version": {"2015-12-01"}}
	if key != "" {
		vals.Set(key, value)
	}
	for k, v := range params {
		vals.Set(k, v)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(vals.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Amz-Date", "20250101T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=K/20250101/us-east-1/elasticloadbalancing/aws4_request, SignedHeaders=host, Signature=00")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return string(b), err
}

// groupARNs finds target groups by name.
func groupARNs(t *testing.T, s stage) map[string]string {
	t.Helper()
	b, err := raw(t, s, "DescribeTargetGroups", "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		List []struct {
			ARN  string `xml:"TargetGroupArn"`
			Name string `xml:"TargetGroupName"`
		} `xml:"DescribeTargetGroupsResult>TargetGroups>member"`
	}
	if err := xml.Unmarshal([]byte(b), &x); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, g := range x.List {
		out[g.Name] = g.ARN
	}
	return out
}
