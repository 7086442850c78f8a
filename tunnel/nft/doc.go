// Package nft is the packet filter around the overlay's interface.
//
// It promises that Apply makes the table equal to the wish in one netlink
// transaction, so that no packet ever meets half of it, and touches nothing
// when the table already is as wished. What the wish does not allow is
// dropped; traffic that has to do neither with the interface nor with the
// overlay addresses passes unchanged. The same holds in IPv4 and, where the
// overlay has it, in IPv6; but what comes from the underlay is forwarded in IPv4
// only, since a VPC has no way to an overlay address in IPv6.
//
// A subnet behind this host is open to gateways, every port of it: whoever put
// it into the host's certificate and configuration has published it. The
// machines there see this host's address, and open nothing towards the mesh.
//
// It owns outside the process the nftables table "inet drawbridge" and nothing
// else; [Cleanup] removes it without any memory of how it came there.
//
// It imports the tunnel dictionary and google/nftables, talks netlink only (no
// nft program is needed), and works on Linux; elsewhere it refuses.
//
// It never changes tables of others. In particular a policy of dropping
// forwarded packets in another table, such as container engines set, still
// holds: a packet has to pass all tables.
package nft
