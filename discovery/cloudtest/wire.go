package cloudtest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// service is one AWS API on the endpoint.
type service struct {
	name    string // in the credential scope
	version string
	xmlns   string
	ec2     bool // EC2's dialect: no Result element, other errors
	json    bool // the request asks for JSON; of those here only STS answers in it
	actions map[string]handler
}

var services = map[string]service{
	"elasticloadbalancing": {
		name: "elasticloadbalancing", version: "2015-12-01",
		xmlns:   "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
		actions: elbActions,
	},
	"ec2": {
		name: "ec2", version: "2016-11-15", ec2: true,
		xmlns:   "http://ec2.amazonaws.com/doc/2016-11-15/",
		actions: ec2Actions,
	},
	"sts": { // its actions are the caller's, see acceptSTS
		name: "sts", version: "2011-06-15",
		xmlns: "https://sts.amazonaws.com/doc/2011-06-15/",
	},
}

// maxListIndex bounds the index of a list in a form; AWS lists are shorter.
const maxListIndex = 10_000

// form is a decoded request of the Query protocol: "A.member.1.B=x".
type form struct{ vals url.Values }

func (f form) get(key string) string { return f.vals.Get(key) }
func (f form) has(key string) bool   { return f.vals.Has(key) }

// sub is the form below a prefix.
func (f form) sub(prefix string) form {
	out := form{url.Values{}}
	for k, v := range f.vals {
		if rest, ok := strings.CutPrefix(k, prefix+"."); ok {
			out.vals[rest] = v
		}
	}
	return out
}

// list returns the elements "prefix.1", "prefix.2" ... in order of index. An
// element that is a plain value sits under the empty key.
func (f form) list(prefix string) []form {
	at := map[int]form{}
	for k, v := range f.vals {
		rest, ok := strings.CutPrefix(k, prefix+".")
		if !ok {
			continue
		}
		idx, key, _ := strings.Cut(rest, ".")
		i, err := strconv.Atoi(idx)
		if err != nil || i < 1 || i > maxListIndex || idx[0] == '+' {
			continue
		}
		if at[i].vals == nil {
			at[i] = form{url.Values{}}
		}
		at[i].vals[key] = v
	}
	order := make([]int, 0, len(at))
	for i := range at {
		order = append(order, i)
	}
	slices.Sort(order)
	out := make([]form, len(order))
	for n, i := range order {
		out[n] = at[i]
	}
	return out
}

// strings returns a list of plain values.
func (f form) strings(prefix string) []string {
	var out []string
	for _, e := range f.list(prefix) {
		out = append(out, e.get(""))
	}
	return out
}

// int reads a number within bounds; absent means the default.
func (f form) int(key string, def, least, most int) (int, error) {
	if !f.has(key) {
		return def, nil
	}
	n, err := strconv.Atoi(f.get(key))
	if err != nil || n < least || n > most {
		return 0, invalid("%s '%s' must be between %d and %d", key, f.get(key), least, most)
	}
	return n, nil
}

// bool reads true or false; absent means the default.
func (f form) bool(key string, def bool) (bool, error) {
	if !f.has(key) {
		return def, nil
	}
	v, err := strconv.ParseBool(f.get(key))
	if err != nil {
		return false, invalid("%s '%s' must be true or false", key, f.get(key))
	}
	return v, nil
}

// members is a list of the Query dialect; an empty one is an empty element.
type members[T any] struct {
	List []T `xml:"member"`
}

// items is a list of the EC2 dialect.
type items[T any] struct {
	List []T `xml:"item"`
}

// apiError is AWS's refusal.
type apiError struct {
	Status  int
	Code    string
	Message string
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func fail(status int, code, format string, args ...any) error {
	return &apiError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid is ELB's usual refusal (code ValidationError, HTTP 400).
func invalid(format string, args ...any) error { return fail(400, "ValidationError", format, args...) }

func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	return &apiError{Status: 500, Code: "InternalFailure", Message: err.Error()}
}

// render writes a success: the result inside <ActionResult>, or, for EC2,
// directly inside <ActionResponse>.
func (s service) render(action string, result any) []byte {
	if s.json {
		return s.renderJSON(action, result)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%sResponse xmlns=%q>", action, s.xmlns)
	if s.ec2 {
		fmt.Fprintf(&b, "<requestId>%s</requestId>", requestID())
		encode(&b, result, "")
	} else {
		encode(&b, result, action+"Result")
		fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>", requestID())
	}
	fmt.Fprintf(&b, "</%sResponse>", action)
	return b.Bytes()
}

// encode writes v as the element name, or only its fields when name is "".
func encode(b *bytes.Buffer, v any, name string) {
	if v == nil {
		v = struct{}{}
	}
	bare := name == ""
	if bare {
		name = "bare"
	}
	var one bytes.Buffer
	if err := xml.NewEncoder(&one).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		panic("cloudtest: encode answer: " + err.Error())
	}
	out := one.Bytes()
	if bare {
		out = bytes.TrimSuffix(bytes.TrimPrefix(out, []byte("<bare>")), []byte("</bare>"))
	}
	b.Write(out)
}

func (s service) renderError(e *apiError) []byte {
	if s.json {
		return s.renderJSONError(e)
	}
	var b bytes.Buffer
	kind := "Sender"
	if e.Status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	if s.ec2 {
		fmt.Fprintf(&b, "<Response><Errors><Error><Code>%s</Code><Message>", e.Code)
		_ = xml.EscapeText(&b, []byte(e.Message)) // a bytes.Buffer does not fail
		fmt.Fprintf(&b, "</Message></Error></Errors><RequestID>%s</RequestID></Response>", requestID())
		return b.Bytes()
	}
	fmt.Fprintf(&b, "<ErrorResponse xmlns=%q><Error><Type>%s</Type><Code>%s</Code><Message>", s.xmlns, kind, e.Code)
	_ = xml.EscapeText(&b, []byte(e.Message)) // a bytes.Buffer does not fail
	fmt.Fprintf(&b, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", requestID())
	return b.Bytes()
}
