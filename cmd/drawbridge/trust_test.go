package main

import (
	"strings"
	"testing"
	"time"

	"drawbridge/agent/api"
)

func sampleTrust() api.Trust {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return api.Trust{
		Epoch: 2,
		Roots: []api.Root{{Pin: "sha256:aaaaaaaabb", Current: true, NotAfter: now.AddDate(10, 0, 0)}, {Pin: "sha256:ccccccccdd", NotAfter: now.AddDate(3, 0, 0)}},
		Certificates: []api.Certificate{
			{Node: "1", Name: "gw-a", Issuer: "gw-a", RootPin: "sha256:aaaaaaaabb", NotAfter: now.Add(20 * 24 * time.Hour), Epoch: 2},
			{Node: "2", Name: "gpu-1", Issuer: "gw-a", Renewer: "gw-b", RootPin: "sha256:ccccccccdd", NotAfter: now.Add(-time.Hour), Epoch: 2},
			{Node: "3", Name: "gpu-2", Issuer: "gw-a", RootPin: "sha256:ccccccccdd", NotAfter: now.Add(time.Hour), Epoch: 1},
		},
		Notices: []api.Notice{{Kind: "revoked", Node: "4", Name: "gpu-9", Reason: "operator", By: "gw-a", At: now}},
	}
}

func TestRenderTrust(t *testing.T) {
	got := renderTrust(sampleTrust(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for _, want := range []string{
		"root sha256:aaaaaaaabb  current, until 2036-03-01", "root sha256:ccccccccdd  trusted, until 2029-03-01", "set of roots: 2",
		"gpu-1  gw-a          gw-b        ended    cccccccc  2", "gw-a   gw-a          -           20d", "revoked  gpu-9  operator  gw-a",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := renderTrust(api.Trust{}, time.Now()); !strings.Contains(got, "Nobody is revoked") {
		t.Errorf("an empty answer: %s", got)
	}
}

// TestLaggards: a rotation goes on only when nobody would be cut off.
func TestLaggards(t *testing.T) {
	trust := sampleTrust()
	if got := strings.Join(behind(trust), " "); got != "gpu-2" {
		t.Errorf("behind: %q, want gpu-2", got)
	}
	if got := strings.Join(laggards(trust), " "); got != "gpu-2 gpu-1" {
		t.Errorf("laggards: %q, want gpu-2 gpu-1", got)
	}
	socket := standIn(t, map[string]answer{"/v1/trust": {body: trust}})
	for _, step := range []string{"switch", "retire"} {
		code, _, stderr := call(t, "root", step, "--socket", socket, "--state-dir", t.TempDir())
		if code != exitFailed || !strings.Contains(stderr, "not ready") || !strings.Contains(stderr, "gpu-2") {
			t.Errorf("root %s: code %d, %s", step, code, stderr)
		}
	}
}

func TestStandingVerbs(t *testing.T) {
	done := api.Done{SchemaVersion: 1, Node: "9", Name: "gpu-9", Text: "gpu-9 is revoked", Told: 4}
	for _, verb := range []string{"revoke", "quarantine", "release"} {
		socket := standIn(t, map[string]answer{"/v1/" + verb: {body: done}})
		args := []string{verb, "gpu-9", "--socket", socket}
		if verb == "revoke" {
			if code, _, stderr := call(t, args...); code != exitUsage || !strings.Contains(stderr, "--yes") {
				t.Errorf("revoke without --yes and without a terminal: code %d, %s", code, stderr)
			}
			args = append(args, "--yes")
		}
		code, stdout, stderr := call(t, args...)
		if code != exitOK || stdout != "gpu-9 is revoked. 4 living nodes were told.\n" {
			t.Errorf("%s: code %d, %q %s", verb, code, stdout, stderr)
		}
		if code, stdout, _ := call(t, append(args, "--json")...); code != exitOK || !strings.Contains(stdout, `"told": 4`) {
			t.Errorf("%s --json: code %d, %s", verb, code, stdout)
		}
	}
	socket := standIn(t, map[string]answer{"/v1/release": {code: 403, body: map[string]any{"error": map[string]string{
		"code": "denied", "message": "user 1000 may ask, but not command", "next": "use sudo",
	}}}})
	if code, _, stderr := call(t, "release", "gpu-9", "--socket", socket); code != exitDenied || !strings.Contains(stderr, "use sudo") {
		t.Errorf("denied: code %d, %s", code, stderr)
	}
}
