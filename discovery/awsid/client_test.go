package awsid

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"drawbridge/discovery/cloudtest"
)

// A stranger with a good key of AWS who wants to be believed more than he may.
// What the gateway sees through never reaches STS; the rest STS refuses,
// because the gateway asks its own question.
func TestHostileClient(t *testing.T) {
	now := time.Now()
	good := func(t *testing.T) Proof { return prove(t, roleKey) }
	forged := func(service, region, body string, at time.Time, change func(*http.Request)) func(*testing.T) Proof {
		return func(t *testing.T) Proof { return forge(t, service, region, body, at, change) }
	}
	// with changes one header of a good proof after it was signed.
	with := func(name, from, to string) func(*testing.T) Proof {
		return func(t *testing.T) Proof {
			p := good(t)
			was := p.Headers[name]
			p.Headers[name] = strings.Replace(was, from, to, 1)
			if was == p.Headers[name] && name != headerAuthorization {
				t.Fatalf("%s is as it was", name)
			}
			return p
		}
	}
	region := func(word string) func(*testing.T) Proof {
		return func(t *testing.T) Proof { p := good(t); p.Region = word; return p }
	}
	renamed := func(from, to string) func(*testing.T) Proof {
		return func(t *testing.T) Proof {
			p := good(t)
			v := p.Headers[from]
			delete(p.Headers, from)
			p.Headers[to] = v
			return p
		}
	}
	set := func(name, value string) func(*testing.T) Proof {
		return func(t *testing.T) Proof { p := good(t); p.Headers[name] = value; return p }
	}
	for _, tt := range []struct {
		name  string
		proof func(*testing.T) Proof
		ch    []byte // nil: the right one
		want  error
		words string
		asked int
	}{
		{"honest, the control", forged("sts", "us-east-1", stsBody, now, nil), nil, nil, "", 1},

		{"host of his own", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Host = "sts.evil.com" }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"host of another region", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Host = "sts.eu-west-1.amazonaws.com" }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"path of his own", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.URL.Path = "/evil" }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"query of his own", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.URL.RawQuery = "Action=GetSessionToken" }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"another method", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Method = http.MethodGet }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"another body", forged("sts", "us-east-1", "Action=GetSessionToken&Version=2011-06-15", now, nil), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"body with more", forged("sts", "us-east-1", stsBody+"&X=1", now, nil), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"another content type", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"wants XML", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Set("Accept", "text/xml") }), nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"accept not signed", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Del("Accept") }), nil, ErrMalformed, "does not cover accept", 0},
		{"type not signed", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Del("Content-Type") }), nil, ErrMalformed, "does not cover content-type", 0},
		{"challenge not signed", func(t *testing.T) Proof {
			p := forge(t, "sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Del(headerChallenge) })
			p.Headers[headerChallenge] = good(t).Headers[headerChallenge]
			return p
		}, nil, ErrMalformed, "does not cover x-drawbridge-challenge", 0},
		{"token not signed", func(t *testing.T) Proof {
			p := prove(t, userKey)
			p.Headers[headerToken] = roleKey.Token
			return p
		}, nil, ErrMalformed, "does not cover x-amz-security-token", 0},
		{"token taken away", func(t *testing.T) Proof { p := good(t); delete(p.Headers, headerToken); return p }, nil, ErrMalformed, "x-amz-security-token", 0},
		{"forwarded host, signed", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "sts.evil.com") }), nil, ErrMalformed, "X-Forwarded-Host", 0},
		{"forwarded host, signed only", func(t *testing.T) Proof {
			p := forge(t, "sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "sts.evil.com") })
			delete(p.Headers, "X-Forwarded-Host")
			return p
		}, nil, ErrMalformed, "x-forwarded-host", 0},
		{"target, signed only", forged("sts", "us-east-1", stsBody, now, func(r *http.Request) { r.Header.Set("X-Amz-Target", "Evil") }), nil, ErrMalformed, "x-amz-target", 0},

		{"challenge of another connection", good, other, ErrChallenge, "another connection", 0},
		{"challenge exchanged", func(t *testing.T) Proof {
			p := good(t)
			p.Headers[headerChallenge], _ = challengeValue(other)
			return p
		}, other, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"challenge as a prefix", func(t *testing.T) Proof { p := good(t); p.Headers[headerChallenge] += "AA"; return p }, nil, ErrChallenge, "", 0},
		{"challenge padded", func(t *testing.T) Proof { p := good(t); p.Headers[headerChallenge] += "="; return p }, nil, ErrChallenge, "", 0},
		{"challenge in the other alphabet", with(headerChallenge, "-", "+"), nil, ErrChallenge, "", 0},
		{"no challenge", func(t *testing.T) Proof { p := good(t); delete(p.Headers, headerChallenge); return p }, nil, ErrMalformed, "missing", 0},

		{"region with a host", region("us-east-1.evil.com/"), nil, ErrMalformed, "not a region", 0},
		{"region with a port", region("us-east-1:1"), nil, ErrMalformed, "not a region", 0},
		{"region with userinfo", region("x@evil.com#-1"), nil, ErrMalformed, "not a region", 0},
		{"region with a line", region("us-east-1\r\nX: 1"), nil, ErrMalformed, "", 0},
		{"region in capitals", region("US-EAST-1"), nil, ErrMalformed, "not a region", 0},
		{"region unknown", region("zz-east-1"), nil, ErrMalformed, "not a region", 0},
		{"region of another world", region("us-iso-east-1"), nil, ErrMalformed, "not a region", 0},
		{"region without end", region(strings.Repeat("us-east-", 1000)), nil, ErrMalformed, "8000 letters", 0},
		{"no region", region(""), nil, ErrMalformed, "not a region", 0},
		{"region other than signed for", region("eu-west-1"), nil, ErrMalformed, "signed for the region", 0},
		{"partition other than signed for", region("cn-north-1"), nil, ErrMalformed, "signed for the region", 0},

		{"signed for another service", forged("ec2", "us-east-1", stsBody, now, nil), nil, ErrMalformed, "the service \"ec2\"", 0},
		{"old", forged("sts", "us-east-1", stsBody, now.Add(-6*time.Minute), nil), nil, ErrClock, "set the clocks", 0},
		{"of tomorrow", forged("sts", "us-east-1", stsBody, now.Add(24*time.Hour), nil), nil, ErrClock, "at most 5m0s", 0},
		{"old with a new date", func(t *testing.T) Proof {
			p := forge(t, "sts", "us-east-1", stsBody, now.Add(-6*time.Minute), nil)
			p.Headers[headerDate] = good(t).Headers[headerDate]
			return p
		}, nil, ErrNotAuthentic, "SignatureDoesNotMatch", 1},
		{"day of the scope", with(headerAuthorization, "/20", "/19"), nil, ErrMalformed, "the day 19", 0},
		{"date of another form", set(headerDate, now.UTC().Format(time.RFC3339)), nil, ErrMalformed, "X-Amz-Date", 0},
		{"date with a fraction", with(headerDate, "Z", ".5Z"), nil, ErrMalformed, "X-Amz-Date", 0},
		{"two dates", with(headerDate, "Z", "Z,20300101T000000Z"), nil, ErrMalformed, "X-Amz-Date", 0},

		{"line end in a header", with(headerToken, "of", "of\r\nHost: evil.com\r\nX:"), nil, ErrMalformed, "characters", 0},
		{"bare line feed", with(headerAuthorization, ", Signed", ",\nSigned"), nil, ErrMalformed, "characters", 0},
		{"NUL", with(headerDate, "Z", "Z\x00"), nil, ErrMalformed, "characters", 0},
		{"space that is trimmed", with(headerDate, "Z", "Z "), nil, ErrMalformed, "characters", 0},
		{"letters beyond ASCII", with(headerToken, "of", "øf"), nil, ErrMalformed, "characters", 0},
		{"spaces that are folded", with(headerAuthorization, ", Signed", ",  Signed"), nil, ErrMalformed, "characters", 0},
		{"lower case name", renamed(headerDate, "x-amz-date"), nil, ErrMalformed, "unknown", 0},
		{"upper case name", renamed(headerAuthorization, "AUTHORIZATION"), nil, ErrMalformed, "unknown", 0},
		{"two cases of a name", set("x-drawbridge-challenge", "AAAA"), nil, ErrMalformed, "unknown", 0},
		{"host as a header", set("Host", "evil.com"), nil, ErrMalformed, "unknown", 0},
		{"length as a header", set("Content-Length", "0"), nil, ErrMalformed, "unknown", 0},
		{"name with a line", set("X-Amz-Date\r\nHost", "evil.com"), nil, ErrMalformed, "unknown", 0},

		{"doubled signed header", with(headerAuthorization, ";host;", ";host;host;"), nil, ErrMalformed, "named twice", 0},
		{"unsorted signed headers", with(headerAuthorization, "accept;", "zzz;"), nil, ErrMalformed, "not sorted", 0},
		{"signed header in capitals", with(headerAuthorization, ";host;", ";Host;"), nil, ErrMalformed, "Authorization", 0},
		{"host not among the signed", with(headerAuthorization, ";host;", ";"), nil, ErrMalformed, "does not cover host", 0},
		{"two credentials", with(headerAuthorization, ", Signed", ", Credential=AKIAOTHER00000000001/20250101/us-east-1/sts/aws4_request, Signed"), nil, ErrMalformed, "Authorization", 0},
		{"two authorizations", set(headerAuthorization, "AWS4-HMAC-SHA256 a, AWS4-HMAC-SHA256 b"), nil, ErrMalformed, "Authorization", 0},
		{"another algorithm", with(headerAuthorization, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), nil, ErrMalformed, "AWS4-HMAC-SHA256", 0},
		{"another end of the scope", with(headerAuthorization, "aws4_request", "aws5_request"), nil, ErrMalformed, "Authorization", 0},
		{"signature in capitals", with(headerAuthorization, "Signature=", "Signature=A"), nil, ErrMalformed, "Authorization", 0},
		{"long authorization", set(headerAuthorization, strings.Repeat("A", 2000)), nil, ErrMalformed, "too long", 0},
		{"another's key", with(headerAuthorization, roleKey.ID, userKey.ID), nil, ErrNotAuthentic, "InvalidClientTokenId", 1},

		{"presigned", func(t *testing.T) Proof {
			return Proof{Region: "us-east-1", Headers: map[string]string{
				"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "AKIA/20250101/us-east-1/sts/aws4_request", "X-Amz-Expires": "60",
				"X-Amz-SignedHeaders": "host", "X-Amz-Signature": strings.Repeat("0", 64),
			}}
		}, nil, ErrMalformed, "unknown", 0},
		{"presigned as authorization", set(headerAuthorization, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA"), nil, ErrMalformed, "Authorization", 0},
		{"basic", set(headerAuthorization, "Basic QUtJQTpzZWNyZXQ="), nil, ErrMalformed, "Authorization", 0},
		{"nothing", func(*testing.T) Proof { return Proof{} }, nil, ErrMalformed, "not a region", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud, url := on(t, cloudtest.Options{})
			if tt.ch == nil {
				tt.ch = challenge
			}
			c, err := verify(t, url, tt.proof(t), tt.ch)
			if tt.want == nil {
				if err != nil || c.Role != "gateway" {
					t.Errorf("%+v %v", c, err)
				}
			} else {
				fails(t, err, tt.want, tt.words)
				if c != (Caller{}) {
					t.Errorf("refused, and yet %+v", c)
				}
			}
			if n := len(cloud.Calls()); n != tt.asked {
				t.Errorf("STS was asked %d times, want %d", n, tt.asked)
			}
		})
	}
}

// The line is at five minutes, on both sides.
func TestClockLine(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := forge(t, "sts", "us-east-1", stsBody, at, nil)
	for _, tt := range []struct {
		away time.Duration
		want error
	}{
		{0, nil},
		{5 * time.Minute, nil},
		{-5 * time.Minute, nil},
		{5*time.Minute + time.Second, ErrClock},
		{-5*time.Minute - time.Second, ErrClock},
	} {
		err := p.check(challenge, at.Add(tt.away))
		if tt.want == nil {
			if err != nil {
				t.Errorf("%v: %v", tt.away, err)
			}
			continue
		}
		fails(t, err, tt.want, "2026-01-01T00:00:00Z", at.Add(tt.away).Format(time.RFC3339))
	}
}

// A gateway that made a bad challenge must not blame the host.
func TestVerifyWantsAChallenge(t *testing.T) {
	for _, n := range []int{0, 15, 257} {
		_, err := verify(t, "", prove(t, roleKey), make([]byte, n))
		for _, s := range sentinels {
			if err == nil || strings.Contains(err.Error(), s.Error()) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}
