package config

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"drawbridge/discovery"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var equal = []cmp.Option{cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})}

func parse(text string) (Settings, error) { return Parse("test.yaml", strings.NewReader(text)) }

func TestMinimalFileIsDefault(t *testing.T) {
	for _, text := range []string{"version: 1", "version: 1\n", "---\nversion: 1\n...\n", "# nothing\nversion: 1 # yet\n", "version: 1\ntiming: {pulse: , dark_after: }\nservices:\nlog:\n"} {
		got, err := parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(Default(), got, equal...); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

const (
	ruleARN = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:listener-rule/app/front/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"
	onprem  = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/onprem/6d0ecf831eec9f09"
	cloud   = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/cloud/7d0ecf831eec9f09"
)

// TestReference: the reference parses, shows every key, and where it says that
// a value is the default, it is.
func TestReference(t *testing.T) {
	b, err := os.ReadFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.10:51820")}
	want.Services = []discovery.ServiceSpec{{
		Name: "web", Port: 8080, To: netip.MustParseAddrPort("127.0.0.1:8080"), Capacity: 1,
		Check: discovery.CheckSpec{Kind: discovery.CheckHTTP, Path: "/healthz", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 2},
	}}
	want.Routes = []discovery.Route{{
		Name: "api", Rule: ruleARN, Policy: discovery.PolicyStatic,
		HoldDown: 30 * time.Second, HoldMax: 30 * time.Minute, Ramp: []int{10, 25, 50, 100}, RampStep: 15 * time.Second,
		Pools: []discovery.Pool{
			{Name: "onprem", Site: "idc-seoul", Service: "web", TargetGroup: onprem, Weight: 70},
			{Name: "cloud", TargetGroup: cloud, Weight: 30},
		},
	}}
	want.AWS.Region = "ap-northeast-2"
	want.AWS.ENI = "eni-0123456789abcdef0"
	want.AWS.RouteTables = []string{"rtb-0123456789abcdef0"}
	want.Enrolment.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}
	want.Enrolment.AWS = []AWSRule{{
		Name: "gpu-fleet", Account: "111122223333", Role: "gpu-*", Site: "aws", NodeRole: discovery.RoleServer, Names: []string{"gpu-*"}, Ephemeral: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")},
	}}
	want.Advertise = []netip.Prefix{netip.MustParsePrefix("192.168.20.0/24")}
	if diff := cmp.Diff(want, got, equal...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Without the lines that claim to be default nothing may change.
	claims := 0
	var rest []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "# default") {
			claims++
			continue
		}
		rest = append(rest, line)
	}
	if claims < 30 {
		t.Errorf("only %d claims of defaults found", claims)
	}
	without, err := parse(strings.Join(rest, ""))
	if err != nil {
		t.Fatalf("without the defaults: %v", err)
	}
	// The region is the one claim about a value that is not written there.
	without.AWS.Region = got.AWS.Region
	if diff := cmp.Diff(got, without, equal...); diff != "" {
		t.Errorf("without the defaults (-with +without):\n%s", diff)
	}

	for _, key := range everyKey(t) {
		if !regexp.MustCompile(`(?m)^[ -]*` + key + `:`).Match(b) {
			t.Errorf("the reference does not show %q", key)
		}
	}
}

// everyKey is every key that Show prints for a full configuration.
func everyKey(t *testing.T) []string {
	t.Helper()
	s, err := Load("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := s.Show(&b); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range regexp.MustCompile(`(?m)^[ -]*([a-z_]+):`).FindAllStringSubmatch(b.String(), -1) {
		keys = append(keys, m[1])
	}
	return keys
}

const routeHead = "version: 1\nroutes:\n  - name: api\n    rule: " + ruleARN + "\n"

func pools(lines ...string) string {
	return "    pools:\n      - " + strings.Join(lines, "\n      - ") + "\n"
}

const (
	poolOnprem = "{name: onprem, site: idc, service: web, target_group: '" + onprem + "', weight: 70}"
	poolCloud  = "{name: cloud, target_group: '" + cloud + "', weight: 30}"
)

func TestProblems(t *testing.T) {
	with := func(lines string) string { return "version: 1\n" + lines }
	route := func(lines string) string { return routeHead + lines + pools(poolOnprem, poolCloud) }
	for _, tt := range []struct {
		name string
		text string
		want []string // each begins its problem, in order
	}{
		{"empty", "", []string{`test.yaml: empty; a configuration begins with "version: 1"`}},
		{"comment only", "# nothing\n", []string{"test.yaml: empty"}},
		{"no version", "mtu: 1300\n", []string{"test.yaml:1:1: version is missing"}},
		{"other version", "version: 2\n", []string{`test.yaml:1:10: version: "2", want a whole number from 1 to 1`}},
		{"no keys", "{}", []string{"test.yaml:1:1: version is missing"}},
		{"check of a word", with("services:\n  - {name: web, port: 80, check: tcp}\n"), []string{`test.yaml:3:34: check must be keys with values, not "tcp"`}},
		{"service of a word", with("services: [web]\n"), []string{`test.yaml:2:12: an entry of services must be keys with values, not "web"`}},
		{"no mapping", "- a\n", []string{"test.yaml:1:1: the file must be keys with values, not a list"}},
		{"a word", "hello\n", []string{`test.yaml:1:1: the file must be keys with values, not "hello"`}},
		{"two documents", "version: 1\n---\nversion: 1\n", []string{"test.yaml:3:"}},
		{"syntax", "version: 1\nlog: {level: info\n", []string{"test.yaml:2:"}},
		{"key twice", with("mtu: 1300\nmtu: 1400\n"), []string{"test.yaml:3:1: "}},
		{"unknown key, near", with("listen-port: 51820\n"), []string{`test.yaml:2:1: unknown key "listen-port"; did you mean "listen_port"?`}},
		{"unknown key, swapped letters", with("log: {lveel: info}\n"), []string{`test.yaml:2:7: unknown key "lveel"; did you mean "level"?`}},
		{"unknown key, far", with("log:\n  colour: true\n"), []string{`test.yaml:3:3: unknown key "colour"; known here: level, format`}},
		{"unknown key in a list", routeHead + "    ramp_steps: 15s\n" + pools(poolOnprem, poolCloud), []string{`test.yaml:5:5: unknown key "ramp_steps"; did you mean "ramp_step"?`}},
		{"anchor", with("log: &l {level: info}\n"), []string{"test.yaml:2:6: anchors and aliases are not supported"}},
		{"alias", with("mtu: *l\n"), []string{"test.yaml:2:6: anchors and aliases are not supported"}},
		{"merge", with("log:\n  <<: {level: info}\n"), []string{"test.yaml:3:3: anchors"}},
		{"tag", with("mtu: !!int 1300\n"), []string{"test.yaml:2:6: "}},
		{"several at once", with("mtu: 100\nlisten_port: 70000\nbackend: kernal\nlog: {level: loud, format: xml}\n"), []string{
			`test.yaml:2:6: mtu: "100", want 0, or a whole number from 576 to 9000`,
			`test.yaml:3:14: listen_port: "70000", want a whole number from 0 to 65535`,
			`test.yaml:4:10: backend: "kernal", want auto, kernel, tun or netstack`,
			`test.yaml:5:14: level: "loud", want debug, info, warn or error`,
			`test.yaml:5:28: format: "xml", want text or json`,
		}},
		{"number as text", with("mtu: '1300'\n"), []string{`test.yaml:2:6: mtu: "1300", want 0, or a whole number`}},
		{"text as number", with("interface: 12\n"), []string{`test.yaml:2:12: interface: "12", want text (write it in quotes)`}},
		{"octal", with("mtu: 0o1300\n"), []string{"test.yaml:2:6: mtu"}},
		{"list as value", with("mtu: [1300]\n"), []string{"test.yaml:2:6: mtu: a list, want one value"}},
		{"value as list", with("endpoints: 203.0.113.10:51820\n"), []string{"test.yaml:2:12: endpoints must be a list"}},
		{"value as section", with("log: info\n"), []string{`test.yaml:2:6: log must be keys with values, not "info"`}},
		{"three names", with("endpoints: ['a.example:1', 'b.example:1', 'c.example:1']\n"), []string{"test.yaml:2:12: 3 names, at most 2"}},
		{"endpoints", with("endpoints: ['203.0.113.10', '0.0.0.0:1', '203.0.113.10:51820', 'host:0', 'gw-a.example.com:51820']\n"), []string{
			`test.yaml:2:13: endpoints: "203.0.113.10", want an address or name with port`,
			`test.yaml:2:29: endpoints: "0.0.0.0:1", want an address that other hosts can dial`,
			`test.yaml:2:64: endpoints: "host:0", want an address or name with port`,
		}},
		{"interface", with("interface: a-name-that-is-too-long\n"), []string{"test.yaml:2:12: interface: "}},
		{"socket", with("socket: agent.sock\n"), []string{`test.yaml:2:9: socket: "agent.sock", want an absolute path`}},
		{"proxy not loopback", with("connect_proxy: 0.0.0.0:1055\n"), []string{`test.yaml:2:16: connect_proxy: "0.0.0.0:1055", want a loopback address`}},
		{"ports equal", with("ports: {gossip: 7947}\n"), []string{"test.yaml:2:9: gossip and probe both use UDP port 7947"}},
		{"service without name", with("services:\n  - {port: 80}\n"), []string{"test.yaml:3:6: a service needs name"}},
		{"service twice", with("services:\n  - {name: web, port: 80}\n  - {name: web, port: 80}\n"), []string{`test.yaml:4:12: service "web" is written twice`}},
		{"service port twice", with("services:\n  - {name: web, port: 80}\n  - {name: api, port: 80}\n"), []string{`test.yaml:4:23: port 80 is already that of service "web"`}},
		{"service on control port", with("services:\n  - {name: web, port: 7946}\n"), []string{"test.yaml:3:23: port 7946 is a control port"}},
		{"service name", with("services:\n  - {name: Web, port: 80}\n"), []string{`test.yaml:3:12: name: "Web", want a DNS label`}},
		{"check of nothing", with("services:\n  - {name: web, port: 80, check: {rise: 2}}\n"), []string{`test.yaml:3:35: a check is either`}},
		{"check of both", with("services:\n  - {name: web, port: 80, check: {tcp: true, http: /}}\n"), []string{`test.yaml:3:35: a check is either`}},
		{"check path", with("services:\n  - {name: web, port: 80, check: {http: healthz}}\n"), []string{`test.yaml:3:41: http: "healthz", want a request path`}},
		{"check timeout", with("services:\n  - {name: web, port: 80, check: {tcp: true, timeout: 3s}}\n"), []string{"test.yaml:3:55: timeout 3s is longer than the interval 2s"}},
		{"duration without unit", with("timing: {alone_after: 2}\n"), []string{`test.yaml:2:23: alone_after: "2", want a time with its unit`}},
		{"duration below zero", with("timing: {pulse: -1s}\n"), []string{`test.yaml:2:17: pulse: "-1s", want 0s or a time`}},
		{"dark after too few pulses", with("timing: {pulse: 200ms, dark_after: 500ms}\n"), []string{"test.yaml:2:36: dark_after 500ms is less than three pulses of 200ms"}},
		{"advertised networks", with("advertise: [192.168.20.1/24, 8.8.8.0/24, 'fd00::/64', 192.168.20.0, 10.0.0.0/7]\n"), []string{
			`test.yaml:2:13: advertise: "192.168.20.1/24", want a network without host bits, 192.168.20.0/24`,
			`test.yaml:2:30: advertise: "8.8.8.0/24", want a network within`,
			`test.yaml:2:42: advertise: "fd00::/64", want an IPv4 network`,
			`test.yaml:2:55: advertise: "192.168.20.0", want an IPv4 network`,
			`test.yaml:2:69: advertise: "10.0.0.0/7", want a network within`,
		}},
		{"networks that overlap", with("advertise: [192.168.0.0/16, 192.168.20.0/24]\n"), []string{"test.yaml:2:12: 192.168.0.0/16 and 192.168.20.0/24 overlap"}},
		{"advertise on netstack", with("backend: netstack\nadvertise: [192.168.20.0/24]\n"), []string{"test.yaml:3:12: the netstack backend forwards nothing"}},
		{"dark before echo", with("timing: {echo_after: 1s, dark_after: 1s}\n"), []string{"test.yaml:2:38: dark_after 1s must be longer than echo_after 1s"}},
		{"alone before dark", with("timing: {dark_after: 3s}\n"), []string{"test.yaml:2:10: alone_after 2s is shorter than dark_after 3s"}},
		{"view fresh", with("timing: {pulse: 300ms}\n"), []string{"test.yaml:2:10: view_fresh 300ms is less than one and a half pulses"}},
		{"enrolment", with("enrolment: {node_life: 1s, require_approval: maybe, ephemeral_after: 1s, sts_endpoint: x}\n"), []string{
			"test.yaml:2:24: node_life", "test.yaml:2:46: require_approval", "test.yaml:2:70: ephemeral_after", "test.yaml:2:88: sts_endpoint",
		}},
		{"enrolment addresses", with("enrolment: {listen: ['443'], advertise: ['0.0.0.0:443']}\n"), []string{"test.yaml:2:22: listen", "test.yaml:2:42: advertise"}},
		{"enrolment listens", with("enrolment: {listen: [':1', ':2', ':3', ':4', ':5']}\n"), []string{"test.yaml:2:21: 5 addresses, at most 4"}},
		{"aws rule", with("enrolment: {aws_iam: [{name: a, account: 1111, iam_role: 'a/b', site: Seoul, names: ['A']}]}\n"), []string{
			"test.yaml:2:42: account", "test.yaml:2:58: iam_role", "test.yaml:2:71: site", "test.yaml:2:86: names",
		}},
		{"aws rule bare", with("enrolment: {aws_iam: [{name: a}]}\n"), []string{"test.yaml:2:24: a rule of aws_iam needs account, iam_role, site"}},
		{"aws rule twice", with("enrolment:\n  aws_iam:\n    - {name: a, account: '111122223333', iam_role: r, site: s}\n    - {name: a, account: '111122223333', iam_role: r, site: s}\n"), []string{
			`test.yaml:5:14: rule "a" is written twice`,
		}},
		{"aws", with("aws: {region: Seoul, endpoint_url: 'ftp://x', eni: i-1, route_tables: [eni-1], poll: 10ms}\n"), []string{
			"test.yaml:2:15: region", "test.yaml:2:36: endpoint_url", "test.yaml:2:52: eni", "test.yaml:2:72: route_tables", "test.yaml:2:86: poll",
		}},
		{"table twice", with("aws: {route_tables: [rtb-1, rtb-1]}\n"), []string{"test.yaml:2:21: route table rtb-1 is written twice"}},
		{"route needs", with("routes:\n  - {hold_down: 30s}\n"), []string{"test.yaml:3:6: a route needs name, rule, pools"}},
		{"rule shape", with("routes:\n  - name: api\n    rule: " + onprem + "\n" + pools(poolOnprem, poolCloud)), []string{"test.yaml:4:11: rule: "}},
		{"policy", route("    policy: adaptive\n"), []string{`test.yaml:5:13: policy: "adaptive", want static`}},
		{"stickiness", route("    stickiness: 1500ms\n"), []string{"test.yaml:5:17: stickiness 1.5s: ELB knows whole seconds only"}},
		{"hold", route("    hold_down: 10m\n    hold_max: 5m\n"), []string{"test.yaml:6:15: hold_max 5m is shorter than hold_down 10m"}},
		{"ramp descends", route("    ramp: [50, 25, 100]\n"), []string{"test.yaml:5:11: ramp [50 25 100], want"}},
		{"ramp repeats", route("    ramp: [50, 50, 100]\n"), []string{"test.yaml:5:11: ramp [50 50 100], want"}},
		{"ramp ends early", route("    ramp: [10, 50]\n"), []string{"test.yaml:5:11: ramp [10 50], want"}},
		{"ramp empty", route("    ramp: []\n"), []string{"test.yaml:5:11: ramp [], want"}},
		{"one pool", routeHead + pools(poolOnprem), []string{"test.yaml:6:7: a route needs two pools: with one there is nowhere to move weight"}},
		{"six pools", routeHead + pools(poolOnprem, numbered(2), numbered(3), numbered(4), numbered(5), numbered(6)), []string{"test.yaml:6:7: 6 pools, but ELB forwards to at most 5"}},
		{"no site", routeHead + pools(numbered(1), numbered(2)), []string{"test.yaml:6:7: no pool names a site"}},
		{"all zero", routeHead + pools(strings.Replace(poolOnprem, "70", "0", 1), strings.Replace(poolCloud, "30", "0", 1)), []string{"test.yaml:6:7: all weights are 0"}},
		{"weight", routeHead + pools(poolOnprem, strings.Replace(poolCloud, "30", "1000", 1)), []string{`test.yaml:7:140: weight: "1000", want a whole number from 0 to 999`}},
		{"no weight", routeHead + pools(poolOnprem, strings.Replace(poolCloud, ", weight: 30", "", 1)), []string{"test.yaml:7:10: a pool needs weight"}},
		{"pool twice", routeHead + pools(poolOnprem, strings.Replace(poolCloud, "cloud", "onprem", 1)), []string{`test.yaml:7:16: pool "onprem" is written twice`}},
		{"group twice", routeHead + pools(poolOnprem, strings.Replace(poolCloud, cloud, onprem, 1)), []string{`test.yaml:7:37: the same target group as pool "onprem"`}},
		{"site without service", routeHead + pools(strings.Replace(poolOnprem, "service: web, ", "", 1), poolCloud), []string{"test.yaml:6:30: a pool of a site needs the service"}},
		{"service without site", routeHead + pools(poolOnprem, strings.Replace(poolCloud, "target_group", "service: web, target_group", 1)), []string{"test.yaml:7:32: a pool with a service needs the site"}},
		{"long site", routeHead + pools(strings.Replace(poolOnprem, "idc", strings.Repeat("i", 33), 1), poolCloud), []string{"test.yaml:6:30: site: "}},
		{"other region", routeHead + pools(poolOnprem, strings.Replace(poolCloud, "ap-northeast-2", "us-east-1", 1)), []string{"test.yaml:7:37: in us-east-1 111122223333, but the rule is in ap-northeast-2 111122223333"}},
		{"aws in other region", route("") + "aws: {region: us-east-1}\n", []string{"test.yaml:4:11: the rule is in ap-northeast-2, but aws.region is us-east-1"}},
		{"route twice", route("") + strings.TrimPrefix(route(""), "version: 1\nroutes:\n"), []string{
			`test.yaml:8:11: route "api" is written twice`, `test.yaml:9:11: the same rule as route "api"`,
		}},
		{"group filled twice", route("") + "  - name: other\n    rule: " + strings.Replace(ruleARN, "9683", "9684", 1) + "\n" + pools(strings.Replace(poolOnprem, "web", "api", 1), poolCloud), []string{
			`test.yaml:11:63: route "api" fills the same target group with another site or service`,
		}},
		{"flow too deep", with("mtu: " + strings.Repeat("[", 50_000)), []string{"test.yaml:2:22: nested too deeply"}},
		{"dashes too deep", with(strings.Repeat("- ", 50_000)), []string{"test.yaml:2:33: nested too deeply"}},
		{"too many words", with(strings.Repeat("a: b\n", 50_000)), []string{"test.yaml: more than 100000 words"}},
		{"too large", with("#" + strings.Repeat("x", maxBytes)), []string{"test.yaml: larger than 1048576 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(tt.text)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want problems", err)
			}
			if !reflect.ValueOf(s).IsZero() {
				t.Error("settings come with the error")
			}
			if len(e.Problems) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(e.Problems), len(tt.want), err)
			}
			for i, p := range e.Problems {
				if !strings.HasPrefix(p.String(), tt.want[i]) {
					t.Errorf("got  %s\nwant %s", p, tt.want[i])
				}
			}
		})
	}
}

func numbered(n int) string {
	digit := string(rune('0' + n))
	return strings.NewReplacer("name: cloud", "name: p"+digit, "7d0e", "7d0"+digit).Replace(poolCloud)
}

func TestManyProblemsAreCut(t *testing.T) {
	_, err := parse("version: 1\n" + strings.Repeat("services: 1\n", 1) + "endpoints:\n" + strings.Repeat("  - x\n", 500))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != maxProblems+1 || !strings.Contains(err.Error(), "and 451 more problems") {
		t.Errorf("error %v", err)
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load("no-such.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
}

func TestSuggestion(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"gosip", `did you mean "gossip"?`},
		{"Gossip", `did you mean "gossip"?`},
		{"gsosip", `did you mean "gossip"?`},
		{"prob", `did you mean "probe"?`},
		{"x", "known here: gossip, probe"},
		{strings.Repeat("p", 10_000), "known here: gossip, probe"},
	} {
		if got := suggestion(tt.word, []string{"gossip", "probe"}); got != tt.want {
			t.Errorf("%.20s: %s, want %s", tt.word, got, tt.want)
		}
	}
}

func TestSorted(t *testing.T) {
	s, err := parse("version: 1\nservices:\n  - {name: web, port: 80}\n  - {name: api, port: 81}\naws: {route_tables: [rtb-2, rtb-1]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.Services[0].Name != "api" || s.AWS.RouteTables[0] != "rtb-1" || s.Services[0].To.String() != "127.0.0.1:81" {
		t.Errorf("got %+v", s)
	}
}
