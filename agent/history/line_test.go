package history

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	l := line{
		Event: Event{
			Seq: 7, At: noon.Add(123456000), Kind: "member-quarantined", Subject: "gpu-1", From: "good", To: "quarantined",
			Reason: "clone", Actor: "user alice via sudo", Detail: map[string]string{"z": "<1>", "a": "2"},
		},
		Segment: 3, Prev: "0123456789abcdef",
	}
	raw, err := l.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":7,"at":"2026-03-01T12:00:00.123456Z","kind":"member-quarantined","subject":"gpu-1","from":"good","to":"quarantined",` +
		`"reason":"clone","actor":"user alice via sudo","detail":{"a":"2","z":"<1>"},"segment":3,"prev":"0123456789abcdef"}` + "\n"
	if string(raw) != want {
		t.Errorf("line\n%swant\n%s", raw, want)
	}
	back, err := decode(raw[:len(raw)-1])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestHashOf(t *testing.T) {
	// printf abc | sha256sum
	if got, want := hashOf([]byte("abc")), "ba7816bf8f01cfea"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const good = `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k"}`
	if _, err := decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := decode([]byte(`{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","weather":["fine"]}`)); err != nil {
		t.Errorf("a field of a later version: %v", err)
	}
	for _, tt := range []struct{ name, raw, want string }{
		{"empty", "", "not an event"},
		{"half", good[:20], "not an event"},
		{"two", good + good, "not an event"},
		{"zeros", strings.Repeat("\x00", 100), "not an event"},
		{"list", "[]", "not an event"},
		{"null", "null", "no number"},
		{"no number", `{"at":"2026-03-01T12:00:00Z","kind":"k"}`, "no number"},
		{"negative number", `{"seq":-1,"at":"2026-03-01T12:00:00Z","kind":"k"}`, "not an event"},
		{"no time", `{"seq":1,"kind":"k"}`, "no time"},
		{"time before the year 0", `{"seq":1,"at":"0000-01-01T00:00:00+01:00","kind":"k"}`, "no time"},
		{"no kind", `{"seq":1,"at":"2026-03-01T12:00:00Z"}`, "kind"},
		{"kind no word", `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"K k"}`, "kind"},
		{"short hash", `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","prev":"00"}`, "hash"},
		{"upper-case hash", `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","prev":"0123456789ABCDEF"}`, "hash"},
		{"segment", `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","segment":-1}`, "segment"},
		{"too many details", `{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"k","detail":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":"","j":"","k":"","l":"","m":"","n":"","o":"","p":"","q":""}}`, "17 details"},
		{"too long", good + strings.Repeat(" ", maxLine), "longer than the 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decode([]byte(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Whatever a line holds, decode does not crash, and what it takes can be
// written again and means the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"seq":1,"at":"2026-03-01T12:00:00.123456Z","kind":"token-created","subject":"3f9a","actor":"user alice","segment":1}`,
		`{"seq":2,"at":"2026-03-01T21:00:00+09:00","kind":"k","from":"a","to":"b","detail":{"a":"1","b":"\u0001"},"prev":"0123456789abcdef"}`,
		`{"seq":18446744073709551615,"at":"9999-12-31T23:59:59.999999999Z","kind":"k"}`,
		`{"seq":1,"at":"0000-01-01T00:00:00+01:00","kind":"k"}`, `{"seq":1,"at":"9999-12-31T23:59:59-01:00","kind":"k"}`,
		`{"seq":1,"at":"0001-01-01T00:00:01Z","kind":"k","detail":null}`, `null`, "\x00\x00", `{"seq":1`, `{"SEQ":1,"at":"2026-03-01T12:00:00Z","kind":"k"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := decode(raw)
		if err != nil {
			return
		}
		l.Event, err = l.clean(noon)
		if err != nil {
			t.Fatalf("decode took what clean refuses: %v", err)
		}
		text, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > maxLine {
			t.Fatalf("%d bytes", len(text))
		}
		again, err := decode(text[:len(text)-1])
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(text) > maxLine/2 {
			return // may have been clipped
		}
		if len(again.Detail) == 0 {
			again.Detail, l.Detail = nil, nil
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Errorf("written again (-want +got):\n%s", diff)
		}
	})
}
