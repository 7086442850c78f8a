// Package conflict reads what else lives in this host's network and would break
// the overlay without a word: routes, firewalls, other overlays.
//
// It promises to change nothing, and to name a firewall only when it is certain
// that it drops: rules that it does not understand count as if they might let
// the packet pass. So a host without findings is not proven to be free of them.
// It sees nftables, and iptables where that is a form of it (iptables-nft);
// the older kind of iptables keeps its rules where only its own program reads
// them.
//
// Why only read: rules of other programs are theirs. Docker, ufw and firewalld
// write their tables anew when they please, so a rule of ours there would be
// there until it is not; and what a crash leaves of us must be removable without
// any memory, which holds for a table of our own and not for rules among others.
// The finding ends with the exact command instead, which its owner can make last.
//
// It owns nothing outside the process. It imports the tunnel dictionary,
// vishvananda/netlink and google/nftables, and works on Linux; elsewhere it
// finds nothing.
package conflict
