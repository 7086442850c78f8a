package cloudtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// AccessKey is an identity of AWS with its secret. The requests that it signs
// for STS are verified.
type AccessKey struct {
	ID, Secret string
	Token      string    // session token of temporary keys; "" for a user's own
	Expires    time.Time // of temporary keys; zero: never
	ARN        string    // as GetCallerIdentity names it
	UserID     string    // "" invents one
}

// account is the fifth part of the ARN.
func (k AccessKey) account() string {
	if part := strings.Split(k.ARN, ":"); len(part) > 4 {
		return part[4]
	}
	return Account
}

// AddAccessKey makes a key known, or replaces the one of that id.
func (c *Cloud) AddAccessKey(k AccessKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[k.ID] = k
}

// RemoveAccessKey takes a key away.
func (c *Cloud) RemoveAccessKey(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, id)
}

// forSTS reports whether a request is STS's: by its name in Host, as AWS
// does, or, on the fake's own address, by the scope of the signature.
func forSTS(r *http.Request) bool {
	return strings.HasPrefix(r.Host, "sts.") || strings.Contains(r.Header.Get("Authorization"), "/sts/aws4_request")
}

// acceptSTS verifies the request as it was received, headers and body, and
// returns the service as its caller sees it.
func (c *Cloud) acceptSTS(r *http.Request) (service, form, error) {
	svc, f := services["sts"], form{url.Values{}}
	svc.json = strings.Contains(r.Header.Get("Accept"), "application/json")
	if r.Method != http.MethodPost {
		return svc, f, fail(http.StatusMethodNotAllowed, "InvalidAction", "this fake wants POST")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return svc, f, fail(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "%v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := r.ParseForm(); err != nil {
		return svc, f, fail(400, "MalformedQueryString", "%v", err)
	}
	f = form{r.PostForm}
	key, err := c.authentic(r, body)
	if err != nil {
		return svc, f, err
	}
	if v := f.get("Version"); v != svc.version {
		return svc, f, fail(400, "NoSuchVersion", "version %q of sts is unknown, want %s", v, svc.version)
	}
	svc.actions = map[string]handler{
		// Needs no right, and cannot be forbidden (API reference).
		"GetCallerIdentity": func(*Cloud, form) (any, error) {
			return xIdentity{key.ARN, cmp.Or(key.UserID, "AIDAFAKE"+key.ID), key.account()}, nil
		},
	}
	return svc, f, nil
}

// xIdentity is the result in AWS's order.
type xIdentity struct {
	Arn     string `xml:"Arn" json:"Arn"`
	UserID  string `xml:"UserId" json:"UserId"`
	Account string `xml:"Account" json:"Account"`
}

// renderJSON writes a success of the Query protocol for Accept:
// application/json.
func (s service) renderJSON(action string, result any) []byte {
	return mustJSON(map[string]any{action + "Response": map[string]any{
		action + "Result":  result,
		"ResponseMetadata": map[string]string{"RequestId": requestID()},
	}})
}

func (s service) renderJSONError(e *apiError) []byte {
	kind := "Sender"
	if e.Status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	return mustJSON(map[string]any{
		"Error":     map[string]string{"Code": e.Code, "Message": e.Message, "Type": kind},
		"RequestId": requestID(),
	})
}

func (s service) contentType() string {
	if s.json {
		return "application/json"
	}
	return "text/xml"
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("cloudtest: encode answer: " + err.Error())
	}
	return b
}
