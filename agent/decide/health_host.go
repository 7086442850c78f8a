package decide

import (
	"net/netip"
	"strconv"
	"strings"

	"drawbridge/tunnel"
)

// healthHost tells what else on this host, or in its VPC, is in the overlay's
// way, and what becomes of networks behind servers.
func (c *scene) healthHost() {
	c.healthSubnets()
	me := name(c.s.Self.ID, c.s.Self.Name)
	for _, h := range c.s.Cloud.NextHops {
		for _, p := range h.Local {
			if p.Overlaps(c.s.Settings.Mesh) {
				c.report("vpc-clash", Broken, h.Table, "make the mesh anew with a --prefix that no VPC uses",
					"the VPC's own network %s overlaps the mesh prefix %s: what is sent to the mesh stays in the VPC", p, c.s.Settings.Mesh)
			}
		}
	}
	if c.s.Host == nil {
		return
	}
	for _, x := range c.s.Host.Conflicts {
		c.healthConflict(me, x)
	}
}

// healthConflict gives each kind of conflict its words and its next step.
func (c *scene) healthConflict(me string, x tunnel.Conflict) {
	dev := c.s.Settings.Interface
	whose := x.Subject
	if x.By != "" {
		whose = x.By + " (" + x.Subject + ")"
	}
	switch x.Kind {
	case tunnel.ConflictRoute:
		c.report("route-clash", Broken, me, "take that route away, or make the mesh anew with another --prefix",
			"this host routes %s to %s, and the mesh prefix is %s: one takes addresses from the other", x.What, whose, c.s.Settings.Mesh)
	case tunnel.ConflictTailscale:
		c.report("tailscale-clash", Broken, me, "stop tailscaled (systemctl disable --now tailscaled), or make the mesh anew with a --prefix outside 100.64.0.0/10, such as 10.86.0.0/16",
			"tailscaled (%s) drops packets with addresses in 100.64.0.0/10 that are not its own, and the mesh prefix %s is there", x.Subject, x.What)
	case tunnel.ConflictInput:
		c.report("firewall-input", Broken, me, letIn(x, dev), "the firewall %s drops what members send to %s", whose, x.What)
	case tunnel.ConflictPort:
		c.report("firewall-port", Broken, me, letPort(x), "the firewall %s drops what comes to %s: nobody can dial this node", whose, x.What)
	case tunnel.ConflictForward:
		c.report("firewall-forward", Broken, me, letThrough(x, dev), "the firewall %s drops what this node forwards from %s", whose, x.What)
	}
}

// letIn is how members are let in at a firewall.
func letIn(x tunnel.Conflict, dev string) string {
	switch x.By {
	case "firewalld":
		return "firewall-cmd --permanent --zone=trusted --add-interface=" + dev + " && firewall-cmd --reload"
	case "ufw":
		return "ufw allow in on " + dev
	}
	return rules(x, "iifname", dev)
}

// letPort is how the tunnel's port is opened.
func letPort(x tunnel.Conflict) string {
	proto, port := portOf(x.What)
	switch {
	case x.By == "firewalld":
		return "firewall-cmd --permanent --add-port=" + port + "/" + proto + " && firewall-cmd --reload"
	case x.By == "ufw":
		return "ufw allow " + port + "/" + proto
	case iptables(x):
		return "iptables -I INPUT -p " + proto + " --dport " + port + " -j ACCEPT"
	}
	return "nft insert rule " + x.Subject + " " + proto + " dport " + port + " accept"
}

// letThrough is how forwarded packets are let through. Docker keeps a chain for
// the rules of others, which it never touches.
func letThrough(x tunnel.Conflict, dev string) string {
	switch {
	case x.By == "docker" && iptables(x):
		return "iptables -I DOCKER-USER -i " + dev + " -j ACCEPT; iptables -I DOCKER-USER -o " + dev + " -j ACCEPT; the same again after every boot"
	case x.By == "ufw":
		return "ufw route allow in on " + dev + " && ufw route allow out on " + dev
	case x.By == "firewalld":
		return "firewall-cmd --permanent --zone=trusted --add-interface=" + dev + " && firewall-cmd --reload, and a policy from its other zones to trusted"
	}
	return rules(x, "iifname", dev) + "; " + rules(x, "oifname", dev)
}

// rules is a rule for the interface in front of a chain.
func rules(x tunnel.Conflict, which, dev string) string {
	if iptables(x) {
		f := strings.Fields(x.Subject)
		return "iptables -I " + f[len(f)-1] + " " + map[string]string{"iifname": "-i ", "oifname": "-o "}[which] + dev + " -j ACCEPT"
	}
	return "nft insert rule " + x.Subject + " " + which + " " + strconv.Quote(dev) + " accept"
}

// iptables: the chain is one of those that iptables manages.
func iptables(x tunnel.Conflict) bool {
	f := strings.Fields(x.Subject)
	return len(f) == 3 && f[0] == "ip" && f[1] == "filter" && strings.ToUpper(f[2]) == f[2]
}

// portOf reads "udp port 51820".
func portOf(what string) (proto, port string) {
	if f := strings.Fields(what); len(f) == 3 {
		return f[0], f[2]
	}
	return "udp", "51820"
}

// healthSubnets tells what becomes of the networks behind servers.
func (c *scene) healthSubnets() {
	for _, b := range c.behind {
		m := &c.mates[b.node]
		who := name(m.ID, m.Name)
		switch {
		case b.lost >= 0:
			c.report("subnet-overlap", Warning, who, "let only one of the two advertise it: take it out of the other's configuration",
				"%s overlaps a network of %s, which has it", b.prefix, name(c.mates[b.lost].ID, c.mates[b.lost].Name))
		case b.clash != "":
			c.report("subnet-clash", Warning, who, "give one of the two networks other addresses, or take it out of the server's configuration",
				"%s is not led to this server: it overlaps %s", b.prefix, b.clash)
		}
	}
	if c.gateway() || len(c.s.Settings.Advertise) == 0 {
		return
	}
	me := name(c.s.Self.ID, c.s.Self.Name)
	if c.s.Settings.Interface == "" {
		c.report("subnet-not-served", Broken, me, "run the agent as root with /dev/net/tun, or take advertise out of its configuration",
			"the netstack backend forwards nothing: the networks behind this host are not reached")
	}
	var lacking []netip.Prefix
	for _, p := range c.s.Settings.Advertise {
		if !certified(c.s.Self.Subnets, p) {
			lacking = append(lacking, p)
		}
	}
	if len(lacking) > 0 {
		c.report("subnet-not-certified", Warning, me, "on the gateway that this host joined through: drawbridge members subnets "+me+" "+strings.Join(allOf(c.s.Settings.Advertise), " "),
			"the certificate does not have %s: it is not advertised yet", strings.Join(allOf(lacking), ", "))
	}
}

func allOf(list []netip.Prefix) []string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return words
}
