// Package lab is a miniature internet in which real agents run as processes:
// a VPC with two gateways, a load balancer and two application servers, a
// machine room of GPU servers behind a NAT, and a user who never stops asking.
//
// It promises: the same story on two grounds. On "namespaces" every host is a
// network namespace inside an unprivileged user namespace, packets are real
// and faults are nftables rules; it needs nothing but the kernel. On
// "loopback" the same agents run with the netstack backend on 127.0.0.1 and a
// relay of the lab plays the internet and the NAT; it needs no privilege at
// all. Figures are measured from outside the agents: by the requests of the
// user, and by the agents' own event log, which tells the same clock.
//
// It owns outside the process: one directory (the lab directory, marked by
// lab.json), the processes it started, and, on namespaces, everything inside
// a PID namespace that ends with the lab. It leaves nothing on the host's
// network.
//
// It may import the street's rooms (agent/api's client, agent/config, the
// cloud fake), agent/enroll and agent/pki for crowds that join and for tokens
// that nobody made, and netlink, netns, nftables and x/sys, and wireguard-go, which
// runs bare beside the agents to compare them with. It never reaches into an
// agent: what an operator cannot do through files, commands and sockets, the
// lab cannot do either.
package lab
