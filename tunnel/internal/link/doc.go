// Package link gives an interface its place in the host's network: address,
// route of the mesh prefix, MTU, and the few kernel settings that go with them.
//
// It promises that setting the same state again changes nothing, and that
// [Clash] names the route that is in the way before anything is touched.
//
// It owns, outside the process, what hangs on the interface it is told: its
// address, its route and its entries under /proc/sys/net/ipv4/conf. All of
// that disappears with the interface. [Forward] also switches forwarding on at
// other interfaces, see there.
//
// It imports the tunnel dictionary and vishvananda/netlink, works on Linux
// only (elsewhere every call refuses), and never touches a default route, a
// routing rule or a table other than main.
package link
