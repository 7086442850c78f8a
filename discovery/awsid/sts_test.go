package awsid

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// said is an answer of STS about an identity.
func said(account, arn string) string {
	return fmt.Sprintf(`{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":%q,"Arn":%q,"UserId":"AROA:x"},"ResponseMetadata":{"RequestId":"1"}}}`, account, arn)
}

var believed = said("111122223333", roleKey.ARN)

// Somebody who answers in STS's place, or STS on a bad day.
func TestHostileSTS(t *testing.T) {
	answers := func(status int, body string, kv ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(kv); i += 2 {
				w.Header().Set(kv[i], kv[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the client may be gone
		}
	}
	edited := func(from, to string) http.HandlerFunc {
		s := strings.Replace(believed, from, to, 1)
		if s == believed {
			t.Fatalf("%q is not in the answer", from)
		}
		return answers(200, s)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	fmt.Fprint(z, believed)
	z.Close()
	for _, tt := range []struct {
		name  string
		sts   http.HandlerFunc
		want  error // nil: believed
		words string
	}{
		{"honest, the control", answers(200, believed), nil, ""},
		{"with spaces", answers(200, " \n"+believed+"\n"), nil, ""},
		{"without metadata", edited(`,"ResponseMetadata":{"RequestId":"1"}`, ""), nil, ""},
		{"201", answers(201, believed), ErrUnreachable, "201"},
		{"206", answers(206, believed), ErrUnreachable, "206"},
		{"400 with an identity", answers(400, believed), ErrUnreachable, "no AWS error"},
		{"10 MB", answers(200, believed+strings.Repeat(" ", 10<<20)), ErrUnreachable, "more than 65536"},
		{"10 MB of an error", answers(403, strings.Repeat(`{"Error":`, 10<<17)), ErrUnreachable, "more than 65536"},
		{"1 MB of headers", answers(200, believed, "X-Long", strings.Repeat("x", 1<<20)), ErrUnreachable, "header"},
		{"compressed", answers(200, zipped.String(), "Content-Encoding", "gzip"), ErrUnreachable, "not one JSON value"},
		{"XML", answers(200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>`+roleKey.ARN+`</Arn><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`), ErrUnreachable, "not one JSON value"},
		{"empty", answers(200, ""), ErrUnreachable, "not one JSON value"},
		{"null", answers(200, "null"), ErrUnreachable, "not a JSON object"},
		{"list", answers(200, "["+believed+"]"), ErrUnreachable, "not a JSON object"},
		{"two values", answers(200, believed+believed), ErrUnreachable, "not one JSON value"},
		{"something behind", answers(200, believed+"x"), ErrUnreachable, "not one JSON value"},
		{"byte order mark", answers(200, "\ufeff"+believed), ErrUnreachable, "not one JSON value"},
		{"not UTF-8", edited("AROA", "\xff"), ErrUnreachable, "not one JSON value"},
		{"deep", answers(200, strings.Repeat(`{"GetCallerIdentityResponse":`, 2000)+"1"+strings.Repeat("}", 2000)), ErrUnreachable, "unknown here"},
		{"error with 200", answers(200, `{"Error":{"Code":"AccessDenied","Message":"no","Type":"Sender"},"RequestId":"1"}`), ErrUnreachable, `"Error" is unknown`},
		{"more at the top", edited(`}}}`, `}},"More":1}`), ErrUnreachable, `"More" is unknown`},
		{"more in the response", edited(`}}}`, `},"More":{}}}`), ErrUnreachable, `"More" is unknown`},
		{"more in the result", edited(`"UserId"`, `"More":"1","UserId"`), ErrUnreachable, `"More" is unknown`},
		{"name in another case", edited(`"Arn"`, `"arn"`), ErrUnreachable, `"arn" is unknown`},
		{"second ARN", edited(`"UserId"`, `"Arn":"arn:aws:iam::111122223333:user/x","UserId"`), ErrUnreachable, `"Arn" is there twice`},
		{"second ARN, escaped", edited(`"UserId"`, `"\u0041rn":"arn:aws:iam::111122223333:user/x","UserId"`), ErrUnreachable, `"Arn" is there twice`},
		{"second result", edited(`,"ResponseMetadata"`, `,"GetCallerIdentityResult":{},"ResponseMetadata"`), ErrUnreachable, "there twice"},
		{"account as a number", edited(`"111122223333",`, `111122223333,`), ErrUnreachable, "not a string"},
		{"ARN as an object", edited(`"`+roleKey.ARN+`"`, `{"x":1}`), ErrUnreachable, "not a string"},
		{"no ARN", edited(`"Arn":"`+roleKey.ARN+`",`, ""), ErrUnreachable, "lacks"},
		{"no account", edited(`"Account":"111122223333",`, ""), ErrUnreachable, "lacks"},
		{"no user", edited(`,"UserId":"AROA:x"`, ""), ErrUnreachable, "lacks"},
		{"short account", answers(200, said("11112222333", roleKey.ARN)), ErrUnreachable, "12 digits"},
		{"another account", answers(200, said("999999999999", roleKey.ARN)), ErrUnreachable, "names account"},
		{"another partition", answers(200, said("111122223333", "arn:aws-cn:sts::111122223333:assumed-role/r/sess")), ErrUnreachable, "another partition"},
		{"root", answers(200, said("111122223333", "arn:aws:iam::111122223333:root")), ErrIdentity, "root"},
		{"federated", answers(200, said("111122223333", "arn:aws:sts::111122223333:federated-user/bob")), ErrIdentity, "federated"},
		{"no ARN at all", answers(200, said("111122223333", "hello")), ErrIdentity, "not an ARN"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(believed)))
			_, _ = io.WriteString(w, believed[:20])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, ErrUnreachable, "read the answer"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnreachable, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tt.sts(w, r)
			}))
			defer srv.Close()
			c, err := verify(t, srv.URL, prove(t, roleKey), challenge)
			if tt.want != nil {
				fails(t, err, tt.want, tt.words)
			} else if err != nil || c.Role != "gateway" {
				t.Errorf("%+v %v", c, err)
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var lured atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lured.Add(1)
		fmt.Fprint(w, believed)
	}))
	defer evil.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		sts := httptest.NewServer(http.RedirectHandler(evil.URL, status))
		_, err := verify(t, sts.URL, prove(t, roleKey), challenge)
		fails(t, err, ErrUnreachable, fmt.Sprint(status))
		sts.Close()
	}
	if lured.Load() != 0 {
		t.Errorf("followed %d redirects", lured.Load())
	}
}

// What goes over the wire, header by header: the name of the region's STS
// wherever it is dialled, and nothing of the stranger's but four values.
func TestRequestIsOurOwn(t *testing.T) {
	p := prove(t, roleKey)
	type seen struct {
		Method, Host, URI, Body string
		Header                  http.Header
	}
	var got seen
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.Host, r.RequestURI, string(b), r.Header}
		fmt.Fprint(w, believed)
	}))
	defer srv.Close()
	if _, err := verify(t, srv.URL+"/", p, challenge); err != nil {
		t.Fatal(err)
	}
	want := seen{"POST", "sts.us-east-1.amazonaws.com", "/", stsBody, http.Header{
		"Accept":         {"application/json"},
		"Connection":     {"close"},
		"Content-Length": {"43"},
		"Content-Type":   {"application/x-www-form-urlencoded; charset=utf-8"},
		"User-Agent":     {"drawbridge"},
	}}
	for name, v := range p.Headers {
		want.Header[name] = []string{v}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without an endpoint the name of STS itself is dialled, over TLS, without any
// proxy.
func TestDialsSTS(t *testing.T) {
	hosts := map[string]string{
		"us-east-1": "sts.us-east-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn",
		"us-gov-east-1": "sts.us-gov-east-1.amazonaws.com", "ap-southeast-5": "sts.ap-southeast-5.amazonaws.com",
	}
	for region, host := range hosts {
		p, err := Prove(t.Context(), ProveOptions{Region: region, Credentials: static(roleKey)}, challenge)
		if err != nil {
			t.Fatal(err)
		}
		var where string
		v := NewVerifier(VerifierOptions{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			where = r.URL.String() + " " + r.Host
			return nil, errors.New("no network")
		})})
		_, err = v.Verify(t.Context(), p, challenge)
		fails(t, err, ErrUnreachable, "no network", host)
		if where != "https://"+host+"/ "+host {
			t.Errorf("%s: %s", region, where)
		}
	}
	if tr := transport().(*http.Transport); tr.Proxy != nil || tr.TLSClientConfig.InsecureSkipVerify || !tr.DisableKeepAlives {
		t.Errorf("the transport would use a proxy, believe any certificate or share connections: %+v", tr)
	}
}

// A private endpoint is believed by its certificate only.
func TestEndpointNeedsACertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, believed) }))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	_, err := verify(t, srv.URL, prove(t, roleKey), challenge)
	fails(t, err, ErrUnreachable, "certificate")
	v := NewVerifier(VerifierOptions{Endpoint: srv.URL, Transport: srv.Client().Transport})
	if c, err := v.Verify(t.Context(), prove(t, roleKey), challenge); err != nil || c.Role != "gateway" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestEndpointForms(t *testing.T) {
	for _, bad := range []string{
		"sts.us-east-1.amazonaws.com", "https://", "ftp://x", "https://u:secret@x", "https://x/path", "https://x?q=1", "https://x?", "https://x#f", "https://x:port", "\n", "https://:443",
	} {
		_, err := verify(t, bad, prove(t, roleKey), challenge)
		fails(t, err, ErrUnreachable, "endpoint for STS")
		if strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
}

// One more try, and only when nothing was sent.
func TestSecondTry(t *testing.T) {
	good := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(believed))}, nil
	}
	refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	lost := func(r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).WroteHeaders()
		return nil, errors.New("connection reset")
	}
	for _, tt := range []struct {
		name  string
		trips []roundTrip
		want  int
		words string // "" believed
	}{
		{"at once", []roundTrip{good}, 1, ""},
		{"at the second", []roundTrip{refused, good}, 2, ""},
		{"never", []roundTrip{refused, refused, good}, 2, "connection refused"},
		{"lost on the way back", []roundTrip{lost, good}, 1, "connection reset"},
		{"refused, then lost", []roundTrip{refused, lost, good}, 2, "connection reset"},
	} {
		n := 0
		v := NewVerifier(VerifierOptions{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			n++
			return tt.trips[n-1](r)
		})})
		_, err := v.Verify(t.Context(), prove(t, roleKey), challenge)
		if n != tt.want || (err == nil) != (tt.words == "") {
			t.Errorf("%s: %d tries, %v", tt.name, n, err)
		}
		if tt.words != "" {
			fails(t, err, ErrUnreachable, tt.words)
		}
	}
	n := 0
	ctx, cancel := context.WithCancel(t.Context())
	v := NewVerifier(VerifierOptions{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		n++
		cancel()
		return nil, ctx.Err()
	})})
	_, err := v.Verify(ctx, prove(t, roleKey), challenge)
	fails(t, err, ErrUnreachable)
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d tries after the caller had gone: %v", n, err)
	}
}

// A real connection that is refused is tried twice, and told plainly.
func TestNobodyListens(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	_, err := verify(t, srv.URL, prove(t, roleKey), challenge)
	fails(t, err, ErrUnreachable, "refused")
}

// Ten seconds are the whole of it, however slowly the answer drips.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prove(t, roleKey)
		for _, tt := range []struct {
			name string
			trip roundTrip
		}{
			{"no answer", func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}},
			{"slow answer", func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(drip{r.Context()})}, nil
			}},
		} {
			start := time.Now()
			_, err := NewVerifier(VerifierOptions{Transport: tt.trip}).Verify(t.Context(), p, challenge)
			fails(t, err, ErrUnreachable)
			if took := time.Since(start); took != verifyTimeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v after %v", tt.name, err, took)
			}
		}
	})
}

// drip gives a byte a second, as long as its request lives.
type drip struct{ ctx context.Context }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	}
}

// The same over a real connection, with the caller's own deadline.
func TestSlowDrip(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer srv.Close()
	p := prove(t, roleKey)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := NewVerifier(VerifierOptions{Endpoint: srv.URL}).Verify(ctx, p, challenge)
	fails(t, err, ErrUnreachable)
}
