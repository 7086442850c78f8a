package nft

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
)

// TestContainerService: a host that translates its port 8080, and 9090, to a
// container, as container engines do.
func TestContainerService(t *testing.T) {
	needNFT(t)
	gw, srv, box := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	nstest.Link(t, gw, "drawbridge0", pre("10.77.0.1/16"), srv, "drawbridge0", pre("10.77.0.2/16"))
	nstest.Link(t, srv, "bridge0", pre("172.31.0.1/24"), box, "eth0", pre("172.31.0.2/24"))
	box.Route(t, pre("10.77.0.0/16"), netip.MustParseAddr("172.31.0.1"), "eth0")
	srv.Must(t, func() error { _, err := link.Forward("drawbridge0"); return err })
	listen(t, box, "172.31.0.2:80")
	srv.Must(t, func() error { return translate(8080, 9090) })
	srv.Must(t, func() error { return New(Options{}).Apply(t.Context(), server()) })

	if seen, _, err := ask(gw, "10.77.0.2:8080", patience); err != nil || seen != "10.77.0.1" {
		t.Errorf("published service in a container: seen as %q, %v", seen, err)
	}
	if seen, _, err := ask(gw, "10.77.0.2:9090", silence); err == nil {
		t.Errorf("unpublished port of a container passed, seen as %q", seen)
	}
	if seen, _, err := ask(box, "10.77.0.1:8080", silence); err == nil {
		t.Errorf("container reached the mesh, seen as %q", seen)
	}
}

// translate sends connections to these ports of this host to 172.31.0.2:80.
func translate(ports ...uint16) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	own := c.AddTable(&nftables.Table{Name: "engine", Family: nftables.TableFamilyIPv4})
	ch := c.AddChain(&nftables.Chain{Name: "pre", Table: own, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for _, p := range ports {
		exprs, err := evaluate(c, own, rule{proto("tcp"), dport([]uint16{p})})
		if err != nil {
			return err
		}
		c.AddRule(&nftables.Rule{Table: own, Chain: ch, Exprs: append(exprs,
			&expr.Immediate{Register: 1, Data: []byte{172, 31, 0, 2}},
			&expr.Immediate{Register: 2, Data: []byte{0, 80}},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: 2, RegAddrMin: 1, RegProtoMin: 2},
		)})
	}
	return c.Flush()
}
