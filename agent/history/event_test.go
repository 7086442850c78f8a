package history

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestCleanKind(t *testing.T) {
	for kind, good := range map[string]bool{
		"token-created": true, "a": true, strings.Repeat("k", 32): true,
		"": false, strings.Repeat("k", 33): false, "Token": false, "token created": false, "token1": false, "token\n": false, "é": false,
	} {
		_, err := Event{Kind: kind}.clean(noon)
		if (err == nil) != good || err != nil && !errors.Is(err, ErrKind) {
			t.Errorf("kind %q: %v", kind, err)
		}
	}
}

func TestCleanTime(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	for _, tt := range []struct{ give, want time.Time }{
		{time.Time{}, noon},
		{time.Date(2026, 3, 1, 21, 0, 0, 1999, seoul), time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)},
		{time.Date(12026, 3, 1, 12, 0, 0, 0, time.UTC), noon},
		{time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -5*60*60)), noon},
		{time.Unix(0, 0), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		got, err := Event{Kind: "k", At: tt.give}.clean(noon.Add(999))
		if err != nil || !got.At.Equal(tt.want) || got.At.Location() != time.UTC {
			t.Errorf("time %v became %v, want %v (%v)", tt.give, got.At, tt.want, err)
		}
	}
}

// What looks like a secret is never written, wherever it stands.
func TestSecretsWithheld(t *testing.T) {
	for _, secret := range []string{
		"dbt1_abcdefgh", "join with dbt1_abcdefgh now", "DBT1_X", "dbt12_x",
		"-----BEGIN PRIVATE KEY-----\nMC4CAQ", "-----BEGIN EC PRIVATE KEY-----",
		strings.Repeat("x", 10_000) + "\n-----END PRIVATE KEY-----",
		"X-Amz-Security-Token: IQoJb3JpZ2lu", "x-amz-security-token=IQoJb3JpZ2lu",
	} {
		e, err := Event{
			Kind: "k", Subject: secret, From: secret, To: secret, Reason: secret, Actor: secret,
			Detail: map[string]string{"a": secret, secret: "b"},
		}.clean(noon)
		if err != nil {
			t.Fatal(err)
		}
		want := Event{
			At: noon, Kind: "k", Subject: withheld, From: withheld, To: withheld, Reason: withheld, Actor: withheld,
			Detail: map[string]string{"a": withheld, withheld: "b"},
		}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("%.40q (-want +got):\n%s", secret, diff)
		}
	}
	for _, fine := range []string{"", "dbt", "dbt_", "private key renewed", "token 3f9a1c2b", "a -> b"} {
		if got := guard(fine); got != fine {
			t.Errorf("%q became %q", fine, got)
		}
	}
}

// A file that was written holds no secret either.
func TestSecretsNotOnDisk(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, dir, Event{Kind: "token-created", Subject: "dbt1_SECRETSECRET", Detail: map[string]string{"key": "PRIVATE KEY SECRETSECRET"}})
	text := string(readSegment(t, dir, 1))
	if strings.Contains(text, "SECRETSECRET") || strings.Count(text, withheld) != 2 {
		t.Errorf("on disk: %s", text)
	}
}

func TestCleanDetail(t *testing.T) {
	detail := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("k%02d", i)] = "v"
		}
		return m
	}
	for n, want := range map[int]string{0: "", 1: "", 15: "", 16: "", 17: "and 2 more", 5000: "and 4985 more"} {
		got := cleanDetail(detail(n))
		if len(got) != min(n, maxDetails) || got[clipMark] != want {
			t.Errorf("%d details became %d, mark %q, want %q", n, len(got), got[clipMark], want)
		}
	}
	long := strings.Repeat("k", maxKey)
	got := cleanDetail(map[string]string{long + "a": "first", long + "b": "second"})
	if diff := cmp.Diff(map[string]string{long[:maxKey-len(clipMark)] + clipMark: "first"}, got); diff != "" {
		t.Errorf("keys that become equal (-want +got):\n%s", diff)
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		s     string
		limit int
		want  string
	}{
		{"", 4, ""},
		{"abcd", 4, "abcd"},
		{"abcde", 4, "a…"},
		{"äöü", 6, "äöü"},
		{"äöüx", 6, "ä…"},
		{"서울서울", 11, "서울…"},
		{"abcdef", 3, "…"},
	} {
		if got := clip(tt.s, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.s, tt.limit, got, tt.want)
		}
	}
}

// Whatever an event holds, its line is one line of at most 4 KiB, and reads
// back as an event.
func TestEveryEventFits(t *testing.T) {
	for name, s := range map[string]string{
		"short": "x", "long": strings.Repeat("x", 5000), "huge": strings.Repeat("y", 1<<17), "control": strings.Repeat("\x01", 5000),
		"newlines": strings.Repeat("\n", 5000), "not text": strings.Repeat("\xffa", 2500), "korean": strings.Repeat("서", 5000),
		"quotes": strings.Repeat(`"`, 5000), "separators": strings.Repeat("\u2028", 5000), "angles": strings.Repeat("<&>", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			detail := map[string]string{}
			for i := range 40 {
				detail[fmt.Sprintf("%02d%s", i, s)] = s
			}
			e, err := Event{Kind: strings.Repeat("k", 32), Subject: s, From: s, To: s, Reason: s, Actor: s, Detail: detail}.clean(noon)
			if err != nil {
				t.Fatal(err)
			}
			e.Seq = 1<<64 - 1
			raw, err := line{Event: e, Segment: maxNumber, Prev: "0123456789abcdef"}.encode()
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > maxLine || bytes.Count(raw, []byte("\n")) != 1 || raw[len(raw)-1] != '\n' || !utf8.Valid(raw) {
				t.Fatalf("%d bytes: %q", len(raw), raw)
			}
			if name != "short" && len(raw) < maxLine/4 {
				t.Errorf("only %d bytes of a long event were kept", len(raw))
			}
			l, err := decode(raw[:len(raw)-1])
			if err != nil {
				t.Fatal(err)
			}
			if name != "short" && !strings.HasSuffix(l.Subject, clipMark) {
				t.Errorf("no mark: %q", l.Subject)
			}
			if len(l.Detail) != maxDetails || l.Detail[clipMark] != "and 25 more" {
				t.Errorf("details %v", l.Detail)
			}
		})
	}
}
