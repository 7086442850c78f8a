package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
)

// TestLabBehind: a machine without an agent, in a network behind a server, is
// reached from the VPC. Every host has strict reverse path filters, and the
// gateway at first a firewall that forwards nothing, as Docker leaves one.
//
//	client -- gw -- inet -- gate -- nas
func TestLabBehind(t *testing.T) {
	if os.Getenv(labEnv) != "1" {
		t.Skipf("set %s=1 to run the whole lab", labEnv)
	}
	if !inNamespaces(t) {
		return
	}
	h := newHamlet(t, "client", "gw", "inet", "gate", "nas")
	h.sysctl("ipv4/conf/all/rp_filter", "1")
	h.sysctl("ipv4/conf/default/rp_filter", "1")
	h.wire("client eth0 172.31.1.9/24", "gw eth1 172.31.1.11/24")
	h.wire("inet pub 203.0.113.1/24", "gw eth0 203.0.113.11/24")
	h.wire("inet up 198.51.100.1/24", "gate eth0 198.51.100.2/24")
	h.wire("gate eth1 192.168.20.1/24", "nas eth0 192.168.20.7/24")
	h.sysctl("ipv4/ip_forward", "1", "inet")
	h.route("gw", "0.0.0.0/0", "203.0.113.1")
	h.route("gate", "0.0.0.0/0", "198.51.100.1")
	h.route("client", "192.168.20.0/24", "172.31.1.11")
	h.route("client", MeshPrefix.String(), "172.31.1.11")
	h.serve("nas", "192.168.20.7:80")
	h.serve("gate", "0.0.0.0:9090")

	h.firewall("gw", true)
	h.found("gw", "203.0.113.11")
	h.agent("gw")
	h.join("gate", "gw", "--subnets", "192.168.0.0/16")
	h.agent("gate", "advertise: [192.168.20.0/24]")
	h.until("the finding about the firewall", func(ctx context.Context) error {
		codes, err := h.codes(ctx, "gw")
		if err == nil && !slices.Contains(codes, "firewall-forward") {
			err = fmt.Errorf("findings %v", codes)
		}
		return err
	})
	h.firewall("gw", false)

	// The agent of gate asks by itself for what it advertises.
	h.reaches("client", "192.168.20.7:80", "192.168.20.1 to nas")
	h.reaches("gw", "192.168.20.7:80", "192.168.20.1 to nas")
	h.until("a status without findings", func(ctx context.Context) error {
		codes, err := h.codes(ctx, "gate")
		if err == nil && len(codes) > 0 {
			err = fmt.Errorf("findings %v: %w", codes, errNotYet)
		}
		return err
	})
	for _, to := range []string{"192.168.20.1:9090", "10.86.0.2:9090"} {
		if got, err := askWithin(h, "client", to, 500*time.Millisecond); err == nil {
			t.Errorf("client reaches %s, which nobody published: %q", to, got)
		}
	}

	// A person takes it back; it ends with the next certificate.
	h.run("gw", nil, "members", "subnets", "gate", "--none")
	h.must(h.crew.kill(agentName("gate")))
	h.agent("gate", "advertise: [192.168.21.0/24]")
	h.until("the end of the way", func(ctx context.Context) error {
		if got, err := askWithin(h, "client", "192.168.20.7:80", 300*time.Millisecond); err == nil {
			return fmt.Errorf("still %q: %w", got, errNotYet)
		}
		codes, err := h.codes(ctx, "gate")
		if err == nil && !slices.Contains(codes, "subnet-not-certified") {
			err = fmt.Errorf("findings %v: %w", codes, errNotYet)
		}
		return err
	})
}

// firewall sets up, or takes away, a firewall that forwards nothing.
func (h *hamlet) firewall(name string, on bool) {
	h.Helper()
	c, err := h.hosts[name].nft()
	h.must(err)
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	policy := nftables.ChainPolicyDrop
	c.AddChain(&nftables.Chain{
		Name: "FORWARD", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	if !on {
		c.DelTable(t)
	}
	h.must(c.Flush())
}

func askWithin(h *hamlet, name, to string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), limit)
	defer cancel()
	return askFrom(ctx, h.hosts[name], netip.MustParseAddrPort(to))
}

// TestLabIPv6Only: an underlay without a single IPv4 address: init, token,
// join, gossip and traffic.
func TestLabIPv6Only(t *testing.T) {
	if os.Getenv(labEnv) != "1" {
		t.Skipf("set %s=1 to run the whole lab", labEnv)
	}
	if !inNamespaces(t) {
		return
	}
	h := newHamlet(t, "gw-a", "gw-b", "inet", "srv")
	h.sysctl("ipv6/conf/default/accept_dad", "0")
	h.sysctl("ipv6/conf/all/forwarding", "1", "inet")
	h.wire("inet a 2001:db8:1::1/64", "gw-a eth0 2001:db8:1::11/64")
	h.wire("inet b 2001:db8:2::1/64", "gw-b eth0 2001:db8:2::11/64")
	h.wire("inet s 2001:db8:3::1/64", "srv eth0 2001:db8:3::2/64")
	h.route("gw-a", "::/0", "2001:db8:1::1")
	h.route("gw-b", "::/0", "2001:db8:2::1")
	h.route("srv", "::/0", "2001:db8:3::1")

	h.found("gw-a", "2001:db8:1::11")
	h.agent("gw-a")
	token := h.run("gw-a", nil, "token", "create", "--site", SiteCloud, "--role", "gateway")
	h.run("gw-b", []string{"DRAWBRIDGE_TOKEN=" + token}, "join", "--name", "gw-b", "--endpoint", "[2001:db8:2::11]:51820")
	h.agent("gw-b")
	h.join("srv", "gw-a", "--source", "2001:db8:3::/64")
	h.agent("srv", "services: [{name: web, port: 8080}]")
	h.serve("srv", "0.0.0.0:8080")
	h.reaches("gw-a", "10.86.0.2:8080", "10.86.0.1 to srv")
	h.reaches("gw-b", "10.86.0.2:8080", "10.86.16.1 to srv")
}
