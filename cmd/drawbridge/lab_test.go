package main

import (
	"strings"
	"testing"
)

func TestLabCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string // parts that must be there
	}{
		{"lab", 0, "lab [command]", ""},
		{"lab", 0, "--keep", ""},
		{"lab measure --help", 0, "throughput    one TCP stream", ""},
		{"lab measure --help", 0, "revoke        from revoking", ""},
		{"lab measure --help", 0, "joins         how many", ""},
		{"lab measure --help", 0, "flood         --connections", ""},
		{"lab measure --help", 0, "overlay       one tunnel", ""},
		{"lab measure --help", 0, "forward       a gateway", ""},
		{"lab measure --help", 0, "peers         what", ""},
		{"lab measure overlay --mode loopback", 1, "", "needs the ground of namespaces"},
		{"lab measure forward --mode loopback", 1, "", "needs the ground of namespaces"},
		{"lab measure peers --mode loopback", 1, "", "needs the ground of namespaces"},
		{"lab ping here 1s 1s", 2, "", "here"},
		{"lab pour 127.0.0.1:9 many 1s 0 1s", 2, "", "many"},
		{"lab crowd ours many", 2, "", "many"},
		{"lab crowd theirs 3", 1, "", "no crowd of kind"},
		{"lab overlay-end /nonexistent", 1, "", "read plan of tunnel"},
		{"lab join /nonexistent", 1, "", "read plan of joiners"},
		{"lab flood /nonexistent", 1, "", "read plan of attack"},
		{"lab demoo", 2, "", "Did you mean this?\n\tdemo"},
		{"lab --keep now", 2, "", `unknown command "now"`},
		{"lab --keep --mode moon", 2, "", `unknown mode "moon"`},
		{"lab measure speed", 2, "", "speed"},
		{"lab measure throughput --mode loopback", 1, "", "needs the ground of namespaces"},
		{"lab draw-stream http://127.0.0.1/ soon 3s", 2, "", "soon"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := call(t, strings.Fields(tt.args)...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
		})
	}
}
