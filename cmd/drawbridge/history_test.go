package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/history"
)

// someHistory is one of everything that a line can show.
func someHistory() []history.Event {
	return []history.Event{
		{At: noon.Add(-26 * time.Hour), Kind: "root-created", Subject: "acme", Actor: "user alice via sudo"},
		{At: noon.Add(-25 * time.Hour), Kind: "token-created", Subject: "3f9a1c2b", To: "good", Actor: "user alice via sudo", Detail: map[string]string{"site": "idc-seoul", "uses": "1"}},
		{At: noon.Add(-20 * time.Minute), Kind: "token-used", Subject: "3f9a1c2b", From: "good", To: "used", Actor: "node 77c0de12 gpu-1 from 203.0.113.9:40001"},
		{At: noon.Add(-20 * time.Minute), Kind: "certificate-issued", Subject: "77c0de1212345678901234567890abcd gpu-1", To: "10.77.16.9", Reason: "join", Actor: "agent gw-a"},
		{At: noon.Add(-time.Minute), Kind: "quarantined", Subject: "gpu-1", From: "good", To: "quarantined", Reason: "clone", Actor: "agent gw-a"},
		{At: noon, Kind: "history", Subject: "journal", Reason: "torn-line", Actor: "agent gw-a", Detail: map[string]string{"bytes": "17"}},
	}
}

// keptHistory is a state directory with these events.
func keptHistory(t *testing.T, events []history.Event) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, e := range events {
		if err := history.Append(dir, e); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRenderHistory(t *testing.T) {
	text := renderHistory(someHistory(), true, false, time.UTC)
	golden(t, "history.txt", text+"---\n"+renderHistory(someHistory(), false, true, time.FixedZone("KST", 9*60*60))+"---\n"+renderHistory(nil, true, false, time.UTC))
	for l := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSpace(l)); n > historyColumns {
			t.Errorf("%d columns: %s", n, l)
		}
	}
}

// Whatever events hold, a line fits the screen and orders no terminal about.
func TestRenderHistoryFits(t *testing.T) {
	long := "x\x1b[2J\u202e" + strings.Repeat("서울 ", 400)
	e := history.Event{At: noon, Kind: strings.Repeat("k", 32), Subject: long, From: long, To: long, Reason: long, Actor: long}
	for name, events := range map[string][]history.Event{
		"all long": {e}, "mixed": append(someHistory(), e), "long actor": append(someHistory(), history.Event{At: noon, Kind: "k", Actor: long}),
	} {
		text := renderHistory(events, true, false, time.UTC)
		for l := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSpace(l)); n > historyColumns {
				t.Errorf("%s: %d columns: %s", name, n, l)
			}
		}
		if lines := strings.Count(text, "\n"); lines != len(events)+1 {
			t.Errorf("%s: %d lines of %d events", name, lines, len(events))
		}
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s: %q reaches the terminal", name, r)
			}
		}
	}
	if wide := renderHistory([]history.Event{e}, true, true, time.UTC); strings.Contains(wide, "…") || strings.Count(wide, "서울") != 5*400 {
		t.Errorf("--wide cuts words: %.200s", wide)
	}
}

func TestHistoryCommand(t *testing.T) {
	dir := keptHistory(t, someHistory())
	for _, tt := range []struct {
		args string
		want string // times of the events, before noon
	}{
		{"", "26h0m0s 25h0m0s 20m0s 20m0s 1m0s 0s"},
		{"--kind token-created --kind token-used", "25h0m0s 20m0s"},
		{"--subject gpu-1", "20m0s 1m0s"},
		{"--actor alice", "26h0m0s 25h0m0s"},
		{"--last 2", "1m0s 0s"},
		{"--since 2026-03-01T11:59:00Z", "1m0s 0s"},
		{"--since 2026-02-28T11:00:00Z --until 2026-03-01T11:59:00Z", "25h0m0s 20m0s 20m0s"},
		{"--since 1h", ""}, // noon is long past
		{"--kind nothing", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := call(t, append([]string{"history", "--json", "--state-dir", dir}, strings.Fields(tt.args)...)...)
			var got struct {
				SchemaVersion int             `json:"schema_version"`
				Events        []history.Event `json:"events"`
				Damaged       *int            `json:"damaged"`
			}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || stderr != "" {
				t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
			}
			if got.SchemaVersion != 1 || got.Events == nil || got.Damaged == nil || *got.Damaged != 0 {
				t.Errorf("answer %s", stdout)
			}
			var times []string
			for _, e := range got.Events {
				times = append(times, noon.Sub(e.At).String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(times, " ")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHistoryJSON(t *testing.T) {
	dir := keptHistory(t, someHistory()[1:2])
	_, stdout, _ := call(t, "history", "--json", "--state-dir", dir)
	want := `{
  "schema_version": 1,
  "events": [
    {
      "seq": 1,
      "at": "2026-02-28T11:00:00Z",
      "kind": "token-created",
      "subject": "3f9a1c2b",
      "to": "good",
      "actor": "user alice via sudo",
      "detail": {
        "site": "idc-seoul",
        "uses": "1"
      }
    }
  ],
  "damaged": 0
}
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, stdout, _ := call(t, "history", "--json", "--state-dir", t.TempDir()); !strings.Contains(stdout, `"events": []`) {
		t.Errorf("an empty history: %s", stdout)
	}
}

func TestHistoryExitCodes(t *testing.T) {
	whole, none := keptHistory(t, someHistory()), t.TempDir()
	// damaged has one line that is no event any more, and one that is another.
	damaged := keptHistory(t, someHistory())
	file := filepath.Join(damaged, "history", "events-00000001.jsonl")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(strings.Replace(string(b), `{"seq":2`, `#"seq":2`, 1), `"agent gw-a"`, `"agent gw-b"`, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		code   int
		stdout string // a part; "" means nothing at all
		stderr string
	}{
		{"--state-dir " + whole, 0, "quarantined", ""},
		{"--state-dir " + whole + " --header=false --last 1 --wide", 0, "journal  -  torn-line", ""},
		{"--state-dir " + whole + " --check", 0, "whole: no event was changed or removed\n", ""},
		{"--state-dir " + whole + " --check --json", 0, `"ok": true`, ""},
		{"--state-dir " + none, 0, "no events\n", ""},
		{"--state-dir " + none + " --check", 0, "whole", ""},

		{"--state-dir /nonexistent/dir", 1, "", "name another with --state-dir"},
		{"--state-dir /nonexistent/dir --check", 1, "", "name another with --state-dir"},

		{"extra", 2, "", "next: drawbridge history --help"},
		{"--since yesterday", 2, "", "--since \"yesterday\": want a time ago such as"},
		{"--since -1h", 2, "", "--since"},
		{"--until 2026-13-01", 2, "", "--until"},
		{"--last 0", 2, "", "--last 0: want 1 to 100000"},
		{"--last 100001", 2, "", "want 1 to 100000"},
		{"--check --kind token-created", 2, "", "check kind"},

		{"--state-dir " + damaged, 4, "quarantined", "is damaged: events-00000001.jsonl:2: not an event"},
		{"--state-dir " + damaged + " --json", 4, `"damaged": 1`, "next: copy " + damaged},
		{"--state-dir " + damaged + " --check", 4, "damaged (2)\n  - events-00000001.jsonl:2: not an event", ""},
		{"--state-dir " + damaged + " --check", 4, "  - events-00000001.jsonl:5: does not match event 4 before it", ""},
		{"--state-dir " + damaged + " --check --json", 4, `"ok": false`, ""},
		{"--state-dir " + damaged + " --check --json", 4, `"line": 5`, ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := call(t, append([]string{"history"}, strings.Fields(tt.args)...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
			if !strings.Contains(stdout, tt.stdout) || (tt.stdout == "" && stdout != "") {
				t.Errorf("standard output %q, want %q", stdout, tt.stdout)
			}
			if !strings.Contains(stderr, tt.stderr) || (tt.stderr == "" && stderr != "") {
				t.Errorf("standard error %q, want %q", stderr, tt.stderr)
			}
		})
	}
}

func TestParseMoment(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	now := noon.In(seoul) // 21:00
	for text, want := range map[string]string{
		"":                          "0001-01-01T00:00:00Z",
		"0s":                        "2026-03-01T12:00:00Z",
		"90s":                       "2026-03-01T11:58:30Z",
		"1h30m":                     "2026-03-01T10:30:00Z",
		"7d":                        "2026-02-22T12:00:00Z",
		"2026-03-01":                "2026-02-28T15:00:00Z",
		"2026-03-01 09:30":          "2026-03-01T00:30:00Z",
		"2026-03-01 09:30:01":       "2026-03-01T00:30:01Z",
		"2026-03-01T09:30:01Z":      "2026-03-01T09:30:01Z",
		"2026-03-01T09:30:01-05:00": "2026-03-01T14:30:01Z",
	} {
		got, err := parseMoment(text, now)
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %v, want %s (%v)", text, got.UTC(), want, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-1d", "d", "1.5d", "65536d", "2026-02-30", "12:00", "1"} {
		if got, err := parseMoment(text, now); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestCompletionOffersHistory(t *testing.T) {
	dir := keptHistory(t, append(someHistory(), history.Event{Kind: "k", Subject: "x\x1b[2J"}))
	for args, want := range map[string]string{
		"--kind token":  "token-created\ntoken-used\n",
		"--subject g":   "gpu-1\n",
		"--subject 77c": "77c0de1212345678901234567890abcd\n",
		"--subject x":   "",
	} {
		_, stdout, _ := call(t, append([]string{"__complete", "history", "--state-dir", dir}, strings.Fields(args)...)...)
		if !strings.HasPrefix(stdout, want+":") {
			t.Errorf("%s offers %q, want %q", args, stdout, want)
		}
	}
	code, stdout, _ := call(t, "--help")
	if code != exitOK || !strings.Contains(stdout, fmt.Sprintf("  %-11s Show what happened", "history")) {
		t.Errorf("the help does not name the verb:\n%s", stdout)
	}
}
