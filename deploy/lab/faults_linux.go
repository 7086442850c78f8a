package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// labTable is the nftables table of the lab in its own namespaces.
const labTable = "drawbridge-lab"

// masquerade makes h a NAT router: what leaves by uplink carries h's address
// there, and nothing that nobody inside asked for comes in.
func (h *host) masquerade(uplink string) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: labTable})
	post := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: append(
		linkIs(expr.MetaKeyOIFNAME, uplink), &expr.Masq{})})
	fwd := c.AddChain(&nftables.Chain{
		Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: fwd, Exprs: append(append(
		linkIs(expr.MetaKeyIIFNAME, uplink), isNew()...), &expr.Verdict{Kind: expr.VerdictDrop})})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("masquerade in %s: %w", h.name, err)
	}
	return nil
}

// fault makes h, a router, drop percent of what passes link in either
// direction: 0 heals, 100 cuts.
func (h *host) fault(link string, percent int) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: labTable})
	chain := c.AddChain(&nftables.Chain{
		Name: "fault-" + link, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.FlushChain(chain)
	if percent > 0 {
		for _, way := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(append(
				linkIs(way, link), chance(percent)...), &expr.Verdict{Kind: expr.VerdictDrop})})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set %d %% loss on %s of %s: %w", percent, link, h.name, err)
	}
	return nil
}

// onlyHTTPS makes h, a router, let nothing out by link but TCP to port 443, and
// nothing in but its answers.
func (h *host) onlyHTTPS(link string, on bool) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: labTable})
	chain := c.AddChain(&nftables.Chain{
		Name: "firewall", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.FlushChain(chain)
	if on {
		const source, destination = 0, 2 // in a TCP header
		for _, way := range []struct {
			key  expr.MetaKey
			port uint32
		}{{expr.MetaKeyOIFNAME, destination}, {expr.MetaKeyIIFNAME, source}} {
			https := append(linkIs(way.key, link),
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: way.port, Len: 2},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(httpsPort)},
				&expr.Verdict{Kind: expr.VerdictAccept})
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: https})
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(linkIs(way.key, link), &expr.Verdict{Kind: expr.VerdictDrop})})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set firewall of %s: %w", h.name, err)
	}
	return nil
}

func (h *host) nft() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	if err != nil {
		return nil, fmt.Errorf("open nftables in %s: %w", h.name, err)
	}
	return c, nil
}

// linkIs matches the name of the incoming or outgoing link.
func linkIs(key expr.MetaKey, link string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

// isNew matches what belongs to no connection yet.
func isNew() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, SourceRegister: false, Key: expr.CtKeySTATE},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// chance matches percent of all packets at random.
func chance(percent int) []expr.Any {
	if percent >= 100 {
		return nil
	}
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(uint32(percent))},
	}
}
