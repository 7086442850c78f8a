package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func show(t testing.TB, s Settings) string {
	t.Helper()
	var b strings.Builder
	if err := s.Show(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShow(t *testing.T) {
	s, err := Load("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const want = `version: 1
listen_port: 0  # default
endpoints: ["203.0.113.10:51820"]
backend: auto  # default
interface: "drawbridge0"  # default
mtu: 0  # default
socket: "/run/drawbridge/agent.sock"  # default
connect_proxy: ""  # default
log:
  level: info  # default
  format: text  # default
ports:
  gossip: 7946  # default
  probe: 7947  # default
services:
  - name: "web"
    port: 8080
    to: "127.0.0.1:8080"  # default
    capacity: 1  # default
    check:
      http: "/healthz"
      interval: 2s  # default
      timeout: 1s  # default
      rise: 2  # default
      fall: 2  # default
advertise: ["192.168.20.0/24"]
routes:
  - name: "api"
    rule: "` + ruleARN + `"
    policy: static  # default
    stickiness: 0s  # default
    hold_down: 30s  # default
    hold_max: 30m  # default
    ramp: [10, 25, 50, 100]  # default
    ramp_step: 15s  # default
    pools:
      - name: "onprem"
        site: "idc-seoul"
        service: "web"
        target_group: "` + onprem + `"
        weight: 70
      - name: "cloud"
        target_group: "` + cloud + `"
        weight: 30
timing:
  pulse: 0s  # default
  echo_after: 0s  # default
  dark_after: 0s  # default
  alone_after: 2s  # default
  peer_silent: 2s  # default
  view_fresh: 300ms  # default
  start_grace: 30s  # default
  target_lost: 10s  # default
aws:
  region: "ap-northeast-2"
  endpoint_url: ""  # default
  eni: "eni-0123456789abcdef0"
  route_tables: ["rtb-0123456789abcdef0"]
  poll: 5s  # default
enrolment:
  node_life: 720h  # default
  listen: ["0.0.0.0:443"]
  advertise: []  # default
  require_approval: false  # default
  ephemeral_after: 10m  # default
  quarantine_clones: true  # default
  sts_endpoint: ""  # default
  aws_iam:
    - name: "gpu-fleet"
      account: "111122223333"
      iam_role: "gpu-*"
      site: "aws"
      node_role: server  # default
      names: ["gpu-*"]
      ephemeral: true
      subnets: ["172.20.0.0/16"]
`
	if diff := cmp.Diff(want, show(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShowReadsAsTheSame(t *testing.T) {
	for _, text := range []string{
		"version: 1",
		"version: 1\nlog: {level: debug, format: json}\ntiming: {pulse: 50ms, dark_after: 1m30s, alone_after: 10m0s}",
		"version: 1\ntiming: {pulse: 10500us}\nservices: [{name: a, port: 1, check: {tcp: true, interval: 1m30s}}, {name: b, port: 2, to: '[::1]:3'}]\nsocket: \"/run/ü 'x' \\\"#.sock\"",
	} {
		s, err := parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		again, err := parse(show(t, s))
		if err != nil {
			t.Errorf("%q shown is refused: %v", text, err)
		} else if !reflect.DeepEqual(s, again) {
			t.Errorf("%q (-read +shown):\n%s", text, cmp.Diff(s, again, equal...))
		}
	}
}

func TestEffective(t *testing.T) {
	s, err := Load("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Line{}
	for _, l := range s.Effective() {
		if _, twice := got[l.Key]; twice {
			t.Errorf("key %s twice", l.Key)
		}
		got[l.Key] = l
	}
	for _, want := range []Line{
		{"mtu", "0", true},
		{"log.level", "info", true},
		{"aws.region", `"ap-northeast-2"`, false},
		{"services[web].check.http", `"/healthz"`, false},
		{"routes[api].hold_max", "30m", true},
		{"routes[api].pools[cloud].weight", "30", false},
	} {
		if got[want.Key] != want {
			t.Errorf("got %+v, want %+v", got[want.Key], want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("pipe closed") }

func TestShowFails(t *testing.T) {
	if err := Default().Show(broken{}); err == nil {
		t.Error("no error")
	}
}

// FuzzParse: nothing panics, an error names the file, and what is accepted
// shows as a file that means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"version: 1\n", "version: 1\nlog: {level: debug}\n", "- a\n", "version: 1\nmtu: [[[\n", "version: 1\nsocket: |\n  /run/x\n",
		routeHead + pools(poolOnprem, poolCloud), "version: 1\nservices:\n  - {name: web, port: 80, check: {tcp: true}}\n",
		"version: 1\ntiming: {pulse: 50ms, dark_after: 1s}\naws: {region: us-east-1, route_tables: [rtb-1]}\n",
		"? a\n: b\n", "&a [*a]\n", "version: !!int 1\n", "%YAML 1.2\n---\nversion: 1\n", "version: 1\n\"mtu\": 1300 # x\n", "a: b: c\n", "{a: , b}\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || !strings.HasPrefix(err.Error(), "test.yaml") {
				t.Fatalf("error %#v", err)
			}
			return
		}
		shown := show(t, s)
		again, err := parse(shown)
		if err != nil {
			t.Fatalf("refused: %v\n%s", err, shown)
		}
		if !reflect.DeepEqual(s, again) && show(t, again) != shown {
			t.Fatalf("(-read +shown):\n%s", cmp.Diff(s, again, equal...))
		}
	})
}
