package conflict

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

var (
	pre  = netip.MustParsePrefix
	addr = netip.MustParseAddr
)

func needNFT(t *testing.T) {
	t.Helper()
	nstest.Need(t)
	if c, err := nftables.New(); err != nil {
		t.Skip(err)
	} else if _, err := c.ListTables(); err != nil {
		t.Skip(err)
	}
}

func gateway() Wish {
	return Wish{
		Interface: "drawbridge0", Mesh: pre("10.77.0.0/16"), Self: addr("10.77.0.1"), Control: []uint16{7946},
		Services: []uint16{8080}, Port: 51820, Dialled: true, Forward: true,
	}
}

// firewall writes tables as other programs do.
type firewall struct {
	t     *testing.T
	conn  *nftables.Conn
	table *nftables.Table
}

func newFirewall(t *testing.T, family nftables.TableFamily, name string) *firewall {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	return &firewall{t, c, c.AddTable(&nftables.Table{Name: name, Family: family})}
}

func (f *firewall) base(name string, hook *nftables.ChainHook, policy nftables.ChainPolicy) {
	f.conn.AddChain(&nftables.Chain{Name: name, Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &policy})
}

func (f *firewall) chain(name string) {
	f.conn.AddChain(&nftables.Chain{Name: name, Table: f.table})
}

func (f *firewall) rule(chain string, parts ...[]expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: &nftables.Chain{Name: chain, Table: f.table}, Exprs: slices.Concat(parts...)})
}

func (f *firewall) set(interval bool, kind nftables.SetDatatype, elements ...nftables.SetElement) *nftables.Set {
	f.t.Helper()
	s := &nftables.Set{Table: f.table, Anonymous: true, Constant: true, Interval: interval, KeyType: kind}
	if len(elements) > 0 && elements[0].VerdictData != nil {
		s.IsMap, s.DataType = true, nftables.TypeVerdict
	}
	if err := f.conn.AddSet(s, elements); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *firewall) flush() {
	f.t.Helper()
	if err := f.conn.Flush(); err != nil {
		f.t.Fatal(err)
	}
}

func verdict(k expr.VerdictKind, chain ...string) []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: k, Chain: strings.Join(chain, "")}}
}

var accept, drop = verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)

func jump(to string) []expr.Any { return verdict(expr.VerdictJump, to) }

func named(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(name + "\x00")}}
}

func in(name string) []expr.Any  { return named(expr.MetaKeyIIFNAME, name) }
func out(name string) []expr.Any { return named(expr.MetaKeyOIFNAME, name) }

func l4(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

func dport(n uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
	}
}

func dportIn(s *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID},
	}
}

func saddr(b ...byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: uint32(len(b))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b},
	}
}

func ctState(mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// followUp is iptables' -m conntrack --ctstate RELATED,ESTABLISHED.
func followUp() []expr.Any {
	info := &xt.ConntrackMtinfo3{}
	info.MatchFlags, info.StateMask = uint16(xt.ConntrackState), 1<<1|1<<2
	for _, ip := range []*net.IP{&info.OrigSrcAddr, &info.OrigDstAddr, &info.ReplSrcAddr, &info.ReplDstAddr} {
		*ip = net.IPv4zero.To4()
	}
	for _, m := range []*net.IPMask{&info.OrigSrcMask, &info.OrigDstMask, &info.ReplSrcMask, &info.ReplDstMask} {
		*m = net.CIDRMask(0, 32)
	}
	return []expr.Any{&expr.Match{Name: "conntrack", Rev: 3, Info: info}}
}

// kinds are the conflicts in few words.
func kinds(t *testing.T, w Wish) []string {
	t.Helper()
	h, err := Read(w)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range h.Conflicts {
		out = append(out, strings.TrimSpace(string(c.Kind)+"; "+c.Subject+"; "+c.What+"; "+c.By))
	}
	return out
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// TestDocker: its chains, as dockerd makes them by iptables-nft, and the rules
// that it advises to add. Real packets say the same.
func TestDocker(t *testing.T) {
	needNFT(t)
	client, s, srv := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	nstest.Link(t, client, "eth0", pre("198.51.100.2/24"), s, "eth0", pre("198.51.100.1/24"))
	nstest.Link(t, s, "drawbridge0", pre("10.77.0.1/16"), srv, "eth0", pre("10.77.0.2/16"))
	client.Route(t, pre("10.77.0.0/16"), addr("198.51.100.1"), "eth0")
	srv.Route(t, pre("198.51.100.0/24"), addr("10.77.0.1"), "eth0")
	s.Route(t, pre("0.0.0.0/0"), addr("198.51.100.2"), "eth0")
	forwarding(t, s)
	var l net.Listener
	srv.Must(t, func() (err error) { l, err = net.Listen("tcp4", "10.77.0.2:80"); return err })
	defer l.Close()
	passes := func(limit time.Duration) bool {
		var c net.Conn
		var err error
		client.Do(func() { c, err = net.DialTimeout("tcp4", "10.77.0.2:80", limit) })
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if !passes(10 * time.Second) {
		t.Fatal("nothing passes even without Docker")
	}
	s.Do(func() {
		f := newFirewall(t, nftables.TableFamilyIPv4, "filter")
		f.base("INPUT", nftables.ChainHookInput, nftables.ChainPolicyAccept)
		f.base("FORWARD", nftables.ChainHookForward, nftables.ChainPolicyDrop)
		for _, c := range []string{"DOCKER-USER", "DOCKER-FORWARD", "DOCKER"} {
			f.chain(c)
		}
		f.rule("FORWARD", jump("DOCKER-USER"))
		f.rule("FORWARD", jump("DOCKER-FORWARD"))
		f.rule("DOCKER-FORWARD", out("docker0"), ctState(expr.CtStateBitESTABLISHED), accept)
		f.rule("DOCKER-FORWARD", out("docker0"), jump("DOCKER"))
		f.rule("DOCKER-FORWARD", in("docker0"), accept)
		f.rule("DOCKER", out("docker0"), drop)
		f.flush()
		want(t, "docker", kinds(t, gateway()),
			"forward; ip filter FORWARD; members to one another; docker", "forward; ip filter FORWARD; the underlay into the mesh; docker")
		server := gateway()
		server.Forward = false
		want(t, "a server that forwards nothing", kinds(t, server))
		server.Subnets = []netip.Prefix{pre("192.168.20.0/24")} // by the default route
		want(t, "a server with machines behind it", kinds(t, server), "forward; ip filter FORWARD; the mesh into 192.168.20.0/24; docker")
	})
	if passes(300 * time.Millisecond) {
		t.Error("the packets pass, although the reading says that they are dropped")
	}
	s.Do(func() {
		f := newFirewall(t, nftables.TableFamilyIPv4, "filter")
		f.rule("DOCKER-USER", in("drawbridge0"), accept)
		f.rule("DOCKER-USER", out("drawbridge0"), accept)
		f.flush()
		want(t, "docker, with the rules that it advises", kinds(t, gateway()))
	})
	// The questions leave by drawbridge0, the answers come in by it.
	if !passes(10 * time.Second) {
		t.Error("nothing passes, although the reading says so")
	}
}

func forwarding(t *testing.T, s *nstest.Space) {
	t.Helper()
	s.Must(t, func() error { return writeSysctl("/proc/sys/net/ipv4/ip_forward", "1") })
}

func TestFirewalls(t *testing.T) {
	needNFT(t)
	inet, ip := nftables.TableFamilyINet, nftables.TableFamilyIPv4
	input := []string{"input; %; tcp port 8080; ", "input; %; udp port 7946; "}
	port := []string{"port; %; tcp port 51820; ", "port; %; udp port 51820; "}
	for _, tt := range []struct {
		name    string
		family  nftables.TableFamily
		table   string
		write   func(f *firewall)
		subject string
		by      string
		want    []string
	}{
		{name: "nothing", family: inet, table: "filter", write: func(*firewall) {}},
		{name: "all is accepted", family: inet, table: "filter", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyAccept)
		}},
		{name: "all is dropped", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.rule("input", in("lo"), accept)
			f.rule("input", ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
		}, want: slices.Concat(input, port)},
		{name: "our own table", family: inet, table: "drawbridge", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
		}},
		{name: "our interface is accepted", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.rule("input", in("drawbridge0"), accept)
		}, want: port},
		{name: "and the port, out of a set", family: inet, table: "filter", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.rule("input", in("drawbridge0"), accept)
			s := f.set(false, nftables.TypeInetService, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(22)}, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(51820)})
			f.rule("input", dportIn(s), accept)
		}},
		{name: "another port, out of a set", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.rule("input", in("drawbridge0"), accept)
			s := f.set(false, nftables.TypeInetService, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(22)})
			f.rule("input", dportIn(s), accept)
		}, want: port},
		{name: "a range of ports", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			s := f.set(true, nftables.TypeInetService,
				nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(0), IntervalEnd: true},
				nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(8000)}, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(9000), IntervalEnd: true},
				nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(51000)}, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(52000), IntervalEnd: true})
			f.rule("input", dportIn(s), accept)
		}, want: input[1:]},
		{name: "states in a map", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			s := f.set(false, nftables.TypeCTState,
				nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED), VerdictData: &expr.Verdict{Kind: expr.VerdictAccept}},
				nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), VerdictData: &expr.Verdict{Kind: expr.VerdictDrop}})
			f.rule("input", []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}})
			f.rule("input", in("drawbridge0"), accept)
		}, want: port},
		{name: "ufw", family: ip, table: "filter", subject: "ip filter INPUT", by: "ufw", write: func(f *firewall) {
			f.base("INPUT", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.chain("ufw-before-input")
			f.chain("ufw-user-input")
			f.rule("INPUT", jump("ufw-before-input"))
			f.rule("ufw-before-input", in("lo"), accept)
			f.rule("ufw-before-input", followUp(), accept)
			f.rule("ufw-before-input", jump("ufw-user-input"))
			f.rule("ufw-user-input", l4(unix.IPPROTO_UDP), []expr.Any{&expr.Match{Name: "udp", Info: &xt.Udp{SrcPorts: [2]uint16{0, 65535}, DstPorts: [2]uint16{51820, 51820}}}}, accept)
			f.rule("ufw-user-input", l4(unix.IPPROTO_TCP), dport(22), accept)
		}, want: []string{input[0], input[1], port[0]}},
		{name: "firewalld", family: inet, table: "firewalld", subject: "inet firewalld filter_INPUT", by: "firewalld", write: func(f *firewall) {
			f.base("filter_INPUT", nftables.ChainHookInput, nftables.ChainPolicyAccept)
			f.chain("filter_IN_public")
			f.rule("filter_INPUT", ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
			f.rule("filter_INPUT", in("lo"), accept)
			f.rule("filter_INPUT", jump("filter_IN_public"))
			f.rule("filter_INPUT", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
			f.rule("filter_IN_public", l4(unix.IPPROTO_TCP), dport(22), accept)
		}, want: slices.Concat(input, port)},
		{name: "tailscaled, of a mesh elsewhere", family: ip, table: "filter", write: func(f *firewall) {
			f.base("INPUT", nftables.ChainHookInput, nftables.ChainPolicyAccept)
			f.chain("ts-input")
			f.rule("INPUT", jump("ts-input"))
			f.rule("ts-input", saddr(100), drop)
		}},
		{name: "a condition that nobody understands", family: inet, table: "filter", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
			f.rule("input", []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1, 0, 0, 0}}}, accept)
		}},
		{name: "a drop that is not certain", family: inet, table: "filter", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyAccept)
			f.rule("input", []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1, 0, 0, 0}}}, drop)
		}},
		{name: "a member's address is dropped", family: inet, table: "filter", subject: "inet filter input", write: func(f *firewall) {
			f.base("input", nftables.ChainHookInput, nftables.ChainPolicyAccept)
			f.rule("input", saddr(10, 77), drop)
		}, want: input},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := nstest.NewSpace(t)
			s.Do(func() {
				f := newFirewall(t, tt.family, tt.table)
				tt.write(f)
				f.flush()
				var expected []string
				for _, w := range tt.want {
					expected = append(expected, strings.TrimSpace(strings.Replace(w, "%", tt.subject, 1)+tt.by))
				}
				slices.Sort(expected)
				want(t, tt.name, kinds(t, gateway()), expected...)
			})
		})
	}
}

// TestTailscale: a mesh in 100.64.0.0/10 on a host with a tailscaled.
func TestTailscale(t *testing.T) {
	needNFT(t)
	mesh, ours := pre("100.77.0.0/16"), "drawbridge0"
	w := gateway()
	w.Mesh, w.Self = mesh, addr("100.77.0.1")
	byName, byRule := nstest.NewSpace(t), nstest.NewSpace(t)
	nstest.Link(t, byName, "tailscale0", pre("100.100.1.1/32"), nstest.NewSpace(t), "x", pre("192.0.2.1/32"))
	byName.Do(func() {
		if err := Mesh(mesh, ours); !errors.Is(err, tunnel.ErrPrefixClash) || !strings.Contains(err.Error(), "tailscaled (tailscale0) drops") {
			t.Errorf("by its interface: %v", err)
		}
		if err := Mesh(pre("10.77.0.0/16"), ours); err != nil {
			t.Errorf("a mesh elsewhere: %v", err)
		}
		want(t, "running", kinds(t, w), "tailscale; tailscale0; 100.77.0.0/16; tailscale")
	})
	byRule.Do(func() {
		if err := Mesh(mesh, ours); err != nil {
			t.Errorf("without tailscaled: %v", err)
		}
		f := newFirewall(t, nftables.TableFamilyIPv4, "filter")
		f.base("INPUT", nftables.ChainHookInput, nftables.ChainPolicyAccept)
		f.chain("ts-input")
		f.rule("INPUT", jump("ts-input"))
		f.flush()
		if err := Mesh(mesh, ours); !errors.Is(err, tunnel.ErrPrefixClash) || !strings.Contains(err.Error(), "chain ts-input") {
			t.Errorf("by its rules: %v", err)
		}
	})
}

func TestRoutes(t *testing.T) {
	needNFT(t)
	s, other := nstest.NewSpace(t), nstest.NewSpace(t)
	mesh := pre("10.77.0.0/16")
	nstest.Link(t, s, "eth0", pre("172.31.0.1/24"), other, "eth0", pre("172.31.0.2/24"))
	s.Route(t, pre("0.0.0.0/0"), addr("172.31.0.2"), "eth0")
	s.Route(t, pre("203.0.113.0/24"), addr("172.31.0.2"), "eth0")
	s.Do(func() {
		want(t, "no clash", kinds(t, gateway()))
		h, err := Read(gateway())
		if err != nil {
			t.Fatal(err)
		}
		if len(h.Routes) != 1 || h.Routes[0] != (tunnel.HostRoute{Prefix: pre("172.31.0.0/24"), Interface: "eth0"}) {
			t.Errorf("routes %v, want the private one alone", h.Routes)
		}
		// A table that every packet is sent to before the main one, as some
		// overlays make.
		route := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 77, 3, 0).To4(), Mask: net.CIDRMask(24, 32)}, Table: 52, Type: unix.RTN_UNREACHABLE}
		if err := netlink.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
		want(t, "a table that no rule leads to", kinds(t, gateway()))
		marked := netlink.NewRule()
		marked.Table, marked.Priority, marked.Mark, marked.Family = 52, 100, 7, unix.AF_INET
		plain := netlink.NewRule()
		plain.Table, plain.Priority, plain.Family = 52, 200, unix.AF_INET
		if err := netlink.RuleAdd(marked); err != nil {
			t.Fatal(err)
		}
		want(t, "a table for marked packets", kinds(t, gateway()))
		if err := netlink.RuleAdd(plain); err != nil {
			t.Fatal(err)
		}
		want(t, "a table before ours", kinds(t, gateway()), "route; nowhere; 10.77.3.0/24;")
		if err := Mesh(mesh, "drawbridge0"); !errors.Is(err, tunnel.ErrPrefixClash) {
			t.Errorf("at init: %v", err)
		}
	})
	// Another WireGuard's network, made after this node had started.
	nstest.Link(t, s, "br-0123456789ab", pre("10.77.9.1/24"), other, "eth1", pre("10.77.9.2/24"))
	s.Do(func() {
		if got := kinds(t, gateway()); !slices.Contains(got, "route; br-0123456789ab; 10.77.9.0/24; docker") {
			t.Errorf("a network of Docker within the mesh: %q", got)
		}
	})
	own := nstest.NewSpace(t)
	nstest.Link(t, own, "drawbridge0", pre("10.77.0.1/16"), other, "x", pre("192.0.2.9/32"))
	own.Do(func() { want(t, "our own interface", kinds(t, gateway())) })
}

func TestMaker(t *testing.T) {
	for _, tt := range []struct {
		link netlink.Link
		want string
	}{
		{&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}}, "wireguard"},
		{&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tailscale0"}}, "tailscale"},
		{&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}, "docker"},
		{&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-0123456789ab"}}, "docker"},
		{&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-lan"}}, ""},
		{&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}, ""},
	} {
		if got := maker(tt.link); got != tt.want {
			t.Errorf("%s is made by %q, want %q", tt.link.Attrs().Name, got, tt.want)
		}
	}
}

func TestBounded(t *testing.T) {
	var list []tunnel.HostRoute
	for i := range 2 * maxRoutes {
		list = append(list, tunnel.HostRoute{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Interface: "eth0"})
	}
	wide := tunnel.HostRoute{Prefix: pre("172.16.0.0/12"), Interface: "eth1"}
	got := bounded(append(list, wide))
	if len(got) != maxRoutes || !slices.Contains(got, wide) {
		t.Errorf("%d routes, want %d with the widest among them", len(got), maxRoutes)
	}
}

func writeSysctl(path, value string) error { return os.WriteFile(path, []byte(value), 0o644) }
