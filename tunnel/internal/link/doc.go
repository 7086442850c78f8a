// Package link gives an interface its place in the host's network: addresses,
// routes of the mesh prefixes and of what lies behind peers, MTU, and the few
// kernel settings that go with them. It also makes and finds the interfaces of
// the kernel backend.
//
// It promises that setting the same state again changes nothing, that no route
// of somebody else is ever replaced or removed, that [Clash] names the route
// that is in the way before anything is touched, and that an interface which
// is not ours is refused.
//
// It owns, outside the process, what hangs on the interface it is told: its
// addresses, its routes of [Protocol] and its entries under /proc/sys/net. All of
// that disappears with the interface. [Hold] owns an abstract socket, named
// after the interface. [Forward] also switches forwarding on at other
// interfaces, see there.
//
// It imports the tunnel dictionary and vishvananda/netlink, works on Linux
// only (elsewhere every call refuses), and never touches a default route, a
// routing rule or a table other than main.
package link
