package vpc_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
	"drawbridge/discovery/cloudtest"
	"drawbridge/discovery/internal/mototest"
	"drawbridge/discovery/vpc"
)

var mesh = netip.MustParsePrefix("172.20.0.0/16")

// stage is an AWS with two route tables and two network interfaces.
type stage struct {
	url    string
	cloud  *cloudtest.Cloud // nil on moto
	tables []string         // sorted
	enis   []string
}

func identity(t *testing.T) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(k, v)
	}
}

func onCloud(t *testing.T) stage {
	t.Helper()
	c := cloudtest.New(cloudtest.Options{})
	s := stage{cloud: c, tables: []string{"rtb-a", "rtb-b"}, enis: []string{"eni-1", "eni-2"}}
	c.AddVPC("vpc-1", netip.MustParsePrefix("10.0.0.0/16"))
	for i, id := range s.tables {
		c.AddRouteTable(id, "vpc-1")
		c.AddENI(s.enis[i], netip.AddrFrom4([4]byte{10, 0, byte(i), 5}))
	}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func onMoto(t *testing.T) stage {
	t.Helper()
	s := stage{url: mototest.Start(t)}
	call := func(out any, kv ...string) {
		t.Helper()
		mototest.Call(t, s.url, "ec2", "2016-11-15", out, kv...)
	}
	var v struct {
		ID string `xml:"vpc>vpcId"`
	}
	call(&v, "Action", "CreateVpc", "CidrBlock", "10.0.0.0/16")
	var sub struct {
		ID string `xml:"subnet>subnetId"`
	}
	call(&sub, "Action", "CreateSubnet", "VpcId", v.ID, "CidrBlock", "10.0.1.0/24")
	for range 2 {
		var rt struct {
			ID string `xml:"routeTable>routeTableId"`
		}
		call(&rt, "Action", "CreateRouteTable", "VpcId", v.ID)
		s.tables = append(s.tables, rt.ID)
		var e struct {
			ID string `xml:"networkInterface>networkInterfaceId"`
		}
		call(&e, "Action", "CreateNetworkInterface", "SubnetId", sub.ID)
		s.enis = append(s.enis, e.ID)
	}
	if s.tables[1] < s.tables[0] {
		s.tables[0], s.tables[1] = s.tables[1], s.tables[0]
	}
	return s
}

func (s stage) hand(t *testing.T) (*vpc.NextHops, *[]discovery.NextHop) {
	t.Helper()
	identity(t)
	api, err := vpc.NewClient(t.Context(), vpc.ClientOptions{Region: cloudtest.DefaultRegion, EndpointURL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	got := new([]discovery.NextHop)
	return vpc.NewNextHops(vpc.Options{
		API: api, Report: func(x []discovery.NextHop) { *got = x },
		Now: func() time.Time { return now },
	}), got
}

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// wish wants the mesh prefix of every table on an interface. The prefix has
// host bits: the hand masks them.
func (s stage) wish(eni string) discovery.CloudWish {
	w := discovery.CloudWish{Write: true, Read: discovery.CloudRead{Tables: s.tables, Prefix: mesh}}
	for _, id := range s.tables {
		w.NextHops = append(w.NextHops, discovery.NextHopWish{
			Table: id, Prefix: netip.PrefixFrom(netip.MustParseAddr("172.20.3.4"), 16), ENI: eni, Reason: discovery.ReasonGatewayDead,
		})
	}
	return w
}

func must(t *testing.T, h *vpc.NextHops, w discovery.CloudWish, changed int) {
	t.Helper()
	n, err := h.Apply(t.Context(), w)
	if err != nil || n != changed {
		t.Fatalf("apply: %d changed, %v; want %d", n, err, changed)
	}
}

// hops are expected readings of all tables.
func (s stage) hops(eni, state string) []discovery.NextHop {
	var out []discovery.NextHop
	for _, id := range s.tables {
		out = append(out, discovery.NextHop{Table: id, Read: now, ENI: eni, State: state, Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}})
	}
	return out
}

func want[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The same story with the real SDK on the strict fake and on moto.
func TestWire(t *testing.T) {
	stages := []struct {
		name string
		make func(*testing.T) stage
	}{{"cloudtest", onCloud}, {"moto", onMoto}}
	for _, st := range stages {
		t.Run(st.name, func(t *testing.T) {
			s := st.make(t)
			h, got := s.hand(t)
			dry := s.wish(s.enis[0])
			dry.Write = false
			must(t, h, dry, 0)
			want(t, "no route", s.hops("", ""), *got)
			calls, err := h.Calls(t.Context(), dry)
			if err != nil {
				t.Fatal(err)
			}
			var plan []discovery.Call
			for _, id := range s.tables {
				plan = append(plan, discovery.Call{
					Service: "ec2", Action: "CreateRoute", Object: id, Detail: "172.20.0.0/16 via " + s.enis[0], Reason: discovery.ReasonGatewayDead,
				})
			}
			want(t, "calls", plan, calls)
			must(t, h, s.wish(s.enis[0]), 2)
			want(t, "created", s.hops(s.enis[0], "active"), *got)
			must(t, h, s.wish(s.enis[0]), 0)
			must(t, h, s.wish(s.enis[1]), 2)
			want(t, "replaced", s.hops(s.enis[1], "active"), *got)

			// An interface that is gone is not found; the route stays.
			n, err := h.Apply(t.Context(), s.wish("eni-00000000000000000"))
			if n != 0 || !errors.Is(err, discovery.ErrNotFound) {
				t.Errorf("unknown interface: %d %v", n, err)
			}
			want(t, "kept", s.hops(s.enis[1], "active"), *got)
		})
	}
}

// A route that leads to something else is somebody's.
func TestForeignRouteIsRefused(t *testing.T) {
	s := onCloud(t)
	h, got := s.hand(t)
	s.cloud.AddGatewayRoute("rtb-a", mesh, "tgw-7")
	n, err := h.Apply(t.Context(), s.wish("eni-1"))
	if n != 1 || !errors.Is(err, discovery.ErrRefused) || !strings.Contains(err.Error(), "tgw-7") {
		t.Errorf("%d %v", n, err)
	}
	want(t, "only the other table", []discovery.NextHop{
		{Table: "rtb-a", Read: now, State: "active", Local: s.hops("", "")[0].Local}, s.hops("eni-1", "active")[1],
	}, *got)
}

func TestBlackholeIsReplaced(t *testing.T) {
	s := onCloud(t)
	h, got := s.hand(t)
	must(t, h, s.wish("eni-1"), 2)
	s.cloud.RemoveENI("eni-1")
	must(t, h, discovery.CloudWish{Read: discovery.CloudRead{Tables: s.tables, Prefix: mesh}}, 0)
	want(t, "black hole", s.hops("eni-1", "blackhole"), *got)
	must(t, h, s.wish("eni-2"), 2)
	want(t, "replaced", s.hops("eni-2", "active"), *got)
}

// Pitfall: a route in one table only. One table that fails neither stops nor
// spoils the others.
func TestPitfall06TablesAreIndependent(t *testing.T) {
	for _, bad := range []string{"rtb-0gone", "malformed"} {
		s := onCloud(t)
		s.tables = []string{bad, "rtb-a", "rtb-b"}
		if bad > "rtb-b" {
			s.tables = []string{"rtb-a", "rtb-b", bad}
		}
		h, got := s.hand(t)
		n, err := h.Apply(t.Context(), s.wish("eni-1"))
		if n != 2 || err == nil {
			t.Errorf("%s: %d %v", bad, n, err)
		}
		for _, x := range *got {
			if (x.Table == bad) != (x.Err != "") || (x.ENI == "eni-1") != (x.Err == "") {
				t.Errorf("%s: %+v", bad, x)
			}
		}
	}
}

func TestOneFailingWrite(t *testing.T) {
	s := onCloud(t)
	h, got := s.hand(t)
	s.cloud.Inject(cloudtest.Fault{Action: "CreateRoute", Code: "RouteLimitExceeded"})
	n, err := h.Apply(t.Context(), s.wish("eni-1"))
	if n != 1 || !errors.Is(err, discovery.ErrRefused) {
		t.Errorf("%d %v", n, err)
	}
	must(t, h, s.wish("eni-1"), 1)
	want(t, "converged", s.hops("eni-1", "active"), *got)
}

// Unknown is not "no route": the last good reading stays and nothing is
// written.
func TestPitfall09UnknownIsNotEmpty(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault cloudtest.Fault
		want  error
	}{
		{"throttled", cloudtest.Fault{Code: "RequestLimitExceeded", HTTPStatus: 503}, discovery.ErrThrottled},
		{"5xx", cloudtest.Fault{Code: "InternalError", HTTPStatus: 500}, discovery.ErrUnavailable},
		{"denied", cloudtest.Fault{Code: "UnauthorizedOperation", HTTPStatus: 403}, discovery.ErrDenied},
		{"html", cloudtest.Fault{Garbage: "<html><body>proxy</body></html>"}, discovery.ErrUnavailable},
		{"blank", cloudtest.Fault{Garbage: " "}, discovery.ErrUnavailable},
		{"cut off", cloudtest.Fault{Garbage: "<DescribeRouteTablesResponse><routeTableSet><item>"}, discovery.ErrUnavailable},
		{"empty set", cloudtest.Fault{Garbage: "<DescribeRouteTablesResponse><routeTableSet/></DescribeRouteTablesResponse>"}, discovery.ErrUnavailable},
		{"no routes", cloudtest.Fault{Garbage: "<DescribeRouteTablesResponse><routeTableSet><item><routeTableId>rtb-a</routeTableId></item></routeTableSet></DescribeRouteTablesResponse>"}, discovery.ErrUnavailable},
		{"no answer", cloudtest.Fault{Drop: true}, discovery.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := onCloud(t)
			h, got := s.hand(t)
			must(t, h, s.wish("eni-1"), 2)
			s.cloud.ForgetCalls()
			tt.fault.Count = -1
			s.cloud.Inject(tt.fault)
			n, err := h.Apply(t.Context(), s.wish("eni-2"))
			if n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("%d %v, want %v", n, err, tt.want)
			}
			for i, x := range *got {
				if x.Err == "" {
					t.Errorf("no Err: %+v", x)
				}
				x.Err = ""
				want(t, "kept", s.hops("eni-1", "active")[i], x)
			}
			for _, c := range s.cloud.Calls() {
				if c.Action != "DescribeRouteTables" {
					t.Errorf("written in the dark: %s", c.Action)
				}
			}
			s.cloud.ClearFaults()
			must(t, h, s.wish("eni-2"), 2)
			want(t, "converged", s.hops("eni-2", "active"), *got)
		})
	}
}

// A lost answer is read back and converges; a write is sent once per Apply.
func TestWriteLostAfterSuccess(t *testing.T) {
	s := onCloud(t)
	s.tables = s.tables[:1]
	h, got := s.hand(t)
	s.cloud.Inject(cloudtest.Fault{Action: "CreateRoute", Drop: true, AfterEffect: true})
	if n, err := h.Apply(t.Context(), s.wish("eni-1")); n != 0 || !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("%d %v", n, err)
	}
	want(t, "read back", s.hops("eni-1", "active"), *got)
	must(t, h, s.wish("eni-1"), 0)
}

func TestNoWriteWithoutContext(t *testing.T) {
	s := onCloud(t)
	identity(t)
	api, err := vpc.NewClient(t.Context(), vpc.ClientOptions{Region: cloudtest.DefaultRegion, EndpointURL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := vpc.NewNextHops(vpc.Options{API: api, Report: func([]discovery.NextHop) { cancel() }})
	if n, err := h.Apply(ctx, s.wish("eni-1")); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d %v", n, err)
	}
	for _, c := range s.cloud.Calls() {
		if c.Action != "DescribeRouteTables" {
			t.Errorf("written: %s", c.Action)
		}
	}
}
