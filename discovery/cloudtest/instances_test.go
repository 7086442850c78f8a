package cloudtest

import (
	"strings"
	"testing"
)

func TestDescribeInstances(t *testing.T) {
	const a, b, old, none = "i-0000000000000000a", "i-0000000000000000b", "i-0000000c", "i-0000000000000000f"
	c := New(Options{})
	c.SetInstance(a, "running")
	c.SetInstance(b, "running")
	c.SetInstance(b, "terminated")
	c.SetInstance(old, "stopped")
	for _, tt := range []struct {
		name    string
		params  []string
		code    string
		message string
		states  string // id=code/name, in order
	}{
		{"all", nil, "", "", a + "=16/running " + b + "=48/terminated " + old + "=80/stopped"},
		{"one", []string{"InstanceId.1", b}, "", "", b + "=48/terminated"},
		{"two", []string{"InstanceId.1", old, "InstanceId.2", a, "IncludeManagedResources", "true"}, "", "", a + "=16/running " + old + "=80/stopped"},
		{"missing", []string{"InstanceId.1", a, "InstanceId.2", none}, "InvalidInstanceID.NotFound", "The instance ID '" + none + "' does not exist", ""},
		{"two missing", []string{"InstanceId.1", none, "InstanceId.2", a, "InstanceId.3", "i-0000000f"}, "InvalidInstanceID.NotFound", "The instance IDs '" + none + ", i-0000000f' do not exist", ""},
		{"malformed", []string{"InstanceId.1", none, "InstanceId.2", "i-1"}, "InvalidInstanceID.Malformed", `Invalid id: "i-1"`, ""},
		{"pages of ids", []string{"InstanceId.1", a, "MaxResults", "5"}, "InvalidParameterCombination", "maxResults", ""},
		{"pages", []string{"MaxResults", "5"}, "InvalidParameterValue", "MaxResults", ""},
		{"filter", []string{"Filter.1.Name", "vpc-id", "Filter.1.Value.1", "vpc-1"}, "InvalidParameterValue", "Filter", ""},
		{"dry run", []string{"InstanceId.1", a, "DryRun", "true"}, "DryRunOperation", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, c, "ec2", "DescribeInstances", tt.params...)
			if got.Code != tt.code || !strings.Contains(got.Message, tt.message) {
				t.Fatalf("%+v, want %s", got, tt.code)
			}
			var states []string
			for _, x := range strings.Split(got.Body, "<instanceId>")[1:] {
				id, rest, _ := strings.Cut(x, "</instanceId><instanceState><code>")
				code, rest, _ := strings.Cut(rest, "</code><name>")
				name, _, _ := strings.Cut(rest, "<")
				states = append(states, id+"="+code+"/"+name)
			}
			if s := strings.Join(states, " "); s != tt.states {
				t.Errorf("%s, want %s", s, tt.states)
			}
		})
	}
	c.RemoveInstance(a)
	if got := ask(t, c, "ec2", "DescribeInstances", "InstanceId.1", a); got.Code != "InvalidInstanceID.NotFound" {
		t.Errorf("forgotten: %+v", got)
	}
}

func TestSetInstanceRefusesNonsense(t *testing.T) {
	for _, tt := range [][2]string{{"i-1", "running"}, {"i-0000000a", "asleep"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was taken", tt)
				}
			}()
			New(Options{}).SetInstance(tt[0], tt[1])
		}()
	}
}
