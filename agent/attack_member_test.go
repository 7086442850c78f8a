package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// forgery is a leaf like that of the node, with another address and key, signed
// by whoever the attacker has the key of.
func forgery(t *testing.T, like []byte, addr netip.Addr, parent *x509.Certificate, key ed25519.PrivateKey) []byte {
	t.Helper()
	leaf := must(x509.ParseCertificate(like))(t)
	pub, _ := must2(ed25519.GenerateKey(rand.Reader))(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(mrand.Int64()), Subject: leaf.Subject, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter.Add(time.Hour),
		KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage, BasicConstraintsValid: true,
		DNSNames: leaf.DNSNames, URIs: leaf.URIs, IPAddresses: []net.IP{addr.AsSlice()}, ExtraExtensions: wireGuardOf(leaf),
	}
	as := *parent
	as.PublicKey = nil // the key need not be the parent's
	return must(x509.CreateCertificate(rand.Reader, tmpl, &as, pub, key))(t)
}

// wireGuardOf are the extensions that a copy of the certificate would lack.
func wireGuardOf(leaf *x509.Certificate) []pkix.Extension {
	standard := asn1.ObjectIdentifier{2, 5, 29}
	var out []pkix.Extension
	for _, e := range leaf.Extensions {
		if len(e.Id) < 3 || !e.Id[:3].Equal(standard) {
			out = append(out, e)
		}
	}
	return out
}

// claims are certificates for addresses that the attacker must not have: by a
// server's own key, by a root of theirs, and by the issuing key of a gateway.
func claims(t *testing.T, r *rogue, gateway string, addrs ...netip.Addr) map[string][][]byte {
	t.Helper()
	out := map[string][][]byte{}
	leaf := must(x509.ParseCertificate(r.chain[0]))(t)
	g := open(t, gateway)
	issuer := must(g.Issuer())(t)
	issuerCert := must(x509.ParseCertificate(issuer))(t)
	issuerKey := must(g.IssuerKey())(t)
	mesh := must(pki.MeshOf(must(g.Roots())(t)[0]))(t)
	root, rootKey := must2(pki.NewRoot(mesh, time.Now()))(t)
	own := must(pki.NewSigner(root, rootKey))(t)
	pub, key := must2(ed25519.GenerateKey(rand.Reader))(t)
	block := must(pki.BlockOf(r.chain[1]))(t) // that of the victim and of gw-a
	ownIssuer := must(pki.NewIssuer(own, pub, "gw-b", block, time.Now()))(t)
	ownCert := must(x509.ParseCertificate(ownIssuer))(t)
	for _, a := range addrs {
		out["own key as a CA "+a.String()] = [][]byte{forgery(t, r.chain[0], a, leaf, r.key), r.chain[0], r.chain[1]}
		out["own key in the issuer's name "+a.String()] = [][]byte{forgery(t, r.chain[0], a, issuerCert, r.key), issuer}
		out["own root "+a.String()] = [][]byte{forgery(t, r.chain[0], a, ownCert, key), ownIssuer}
		out["a gateway's issuing key "+a.String()] = [][]byte{forgery(t, r.chain[0], a, issuerCert, issuerKey), issuer}
	}
	return out
}

// The attacker has a server's keys, and a second gateway's issuing key for
// certificates; they claim a member's address, a gateway's, one of the VPC and
// all of them. No other agent's allowed addresses may change.
func TestAttackAddressClaims(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 3, nil)
	a, b, victim, evil := w.gateways[0], w.gateways[1], w.servers[0], w.servers[2]
	honest := []*citizen{a, b, victim, w.servers[1]}
	evil.stop()
	for _, c := range honest {
		c.until(t, "gpu-3 not alive", not(memberIs("gpu-3", "alive")))
	}
	before := map[string]string{}
	for _, c := range honest {
		before[c.name] = c.peers()
	}
	r := newRogue(t, evil.dir, netip.Addr{}, a, b)
	r.mustConnect(t)
	unmoved := func(when string) {
		t.Helper()
		for _, c := range honest {
			if now := c.peers(); now != before[c.name] {
				t.Errorf("%s: tunnels changed %s\nfrom\n%s\nto\n%s", c.name, when, before[c.name], now)
			}
			for _, p := range c.Plan().Peers {
				if p.Key == r.self.WireGuard && p.Endpoint.IsValid() && r.mesh.Contains(p.Endpoint.Addr()) {
					t.Errorf("%s dials %s, inside the overlay", c.name, p.Endpoint)
				}
			}
			for _, m := range c.status(t).Members {
				if m.Name == "forged" || m.Name == "gpu-3" && m.ID != string(r.self.ID) {
					t.Errorf("%s lists a forged member %+v", c.name, m)
				}
			}
		}
	}
	counted := func(c *citizen, what ...string) (n uint64) {
		for _, k := range what {
			n += c.status(t).Counters["gossip."+k]
		}
		return n
	}

	// Its own record, with endpoints where it has no business.
	before3 := counted(a, "foreign", "refused")
	g, stop := r.liar(t, r.self, a, b)
	if err := g.Announce(discovery.Announcement{Boot: 7, Endpoints: []netip.AddrPort{
		netip.AddrPortFrom(victim.Self().Addr, 51820), netip.AddrPortFrom(a.Self().Addr, 7946), netip.MustParseAddrPort("10.86.255.255:1"),
	}, Services: []discovery.Service{{Name: "chat", Port: 8000, Check: discovery.CheckPassing, Capacity: 1}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range honest {
		c.until(t, "the attacker's own record is heard", memberIs("gpu-3", "alive"))
	}
	// Certificates for what is not its own.
	for name, chain := range claims(t, r, b.dir,
		victim.Self().Addr, a.Self().Addr, netip.MustParseAddr("10.0.1.10"), netip.IPv4Unspecified(), netip.MustParseAddr("10.86.255.254"),
	) {
		if err := g.Introduce(chain); err != nil {
			t.Fatalf("attacker: %s: %v", name, err)
		}
	}
	eventually(t, 30*time.Second, "the forged certificates came and were refused", func() bool { return counted(a, "foreign", "refused") >= before3+15 })
	unmoved("by certificates")
	stop()

	// A record of the victim, signed by the attacker.
	r.device.Close()
	r = newRogue(t, evil.dir, netip.Addr{}, a, b)
	r.mustConnect(t)
	bad := counted(a, "bad-signature") + counted(b, "bad-signature")
	g, stop = r.liar(t, discovery.Identity{ID: victim.Self().ID, Name: "gpu-1", Site: "idc", Role: discovery.RoleServer, Addr: r.self.Addr}, a, b)
	if err := g.Announce(discovery.Announcement{Boot: 9, Draining: true, Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51820")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the forged record came and was refused", func() bool { return counted(a, "bad-signature")+counted(b, "bad-signature") > bad })
	stop()
	unmoved("by a forged record")
	for _, c := range honest {
		for _, m := range c.status(t).Members {
			if m.Name == "gpu-1" && (m.Draining || m.Addr != victim.Self().Addr.String()) {
				t.Errorf("%s believes of gpu-1 %+v", c.name, m)
			}
		}
	}
	r.device.Close()

	// Packets from an address that is another's: two lives of it by turns, which
	// would set it apart if anybody believed them.
	spoof := newRogue(t, evil.dir, victim.Self().Addr, a, b)
	spoof.mustConnect(t)
	pulse := spoof.socket(t, portProbe)
	for seq := range uint64(400) {
		for _, c := range []*citizen{a, b} {
			send(t, pulse, c.Self().Addr, portProbe, rawPulse(1+seq/100%2, seq+1, 0, 0, "idc"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	unmoved("by packets from another's address")
	for _, c := range honest {
		if has("quarantined", "")(c.status(t)) {
			t.Errorf("%s: packets in its name set gpu-1 apart", c.name)
		}
		// Talk of death is refuted within a moment.
		since := time.Now()
		c.until(t, "gpu-1 is alive", memberIs("gpu-1", "alive"))
		if took := time.Since(since); took > 5*time.Second {
			t.Errorf("%s: gpu-1 came back after %s", c.name, took)
		} else if took > time.Second {
			t.Logf("%s: gpu-1 came back after %s", c.name, took)
		}
	}
}

// The attacker has a gateway's node keys and tells that it is to be dialled
// inside the overlay, which would make a tunnel carry itself; nobody may.
func TestAttackEndpointInOverlay(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 1, nil)
	a, b, s := w.gateways[0], w.gateways[1], w.servers[0]
	b.stop()
	r := newRogue(t, b.dir, netip.Addr{}, a)
	r.mustConnect(t)
	g, _ := r.liar(t, r.self, a)
	if err := g.Announce(discovery.Announcement{Boot: 7, Version: "evil", Endpoints: []netip.AddrPort{
		netip.AddrPortFrom(a.Self().Addr, 51820), netip.AddrPortFrom(s.Self().Addr, 51820),
	}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*citizen{a, s} {
		c.until(t, "the attacker's record is heard", func(st api.Status) bool {
			return slices.ContainsFunc(st.Members, func(m api.Member) bool { return m.Name == "gw-b" && m.Version == "evil" })
		})
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			for _, p := range c.Plan().Peers {
				if r.mesh.Contains(p.Endpoint.Addr()) {
					t.Fatalf("%s dials %s, inside the overlay", c.name, p.Endpoint)
				}
			}
		}
	}
}

// The attacker has the keys of a server and all of its tunnel; they lie about
// others, flood, and forge notices. Nobody may be moved, put out or set apart,
// and no agent may swell.
func TestAttackCompromisedServer(t *testing.T) {
	// Patient, because attacker and defenders share this machine's processors.
	w := newTown(t, 2, 2, func(s *config.Settings) { s.Timing.EchoAfter, s.Timing.DarkAfter = 2*time.Second, 6*time.Second })
	a, b, victim, evil := w.gateways[0], w.gateways[1], w.servers[0], w.servers[1]
	honest := []*citizen{a, b, victim}

	// What it may have heard: a quarantine that was ended.
	a.command(t, "quarantine", api.Command{Node: "gpu-1"})
	b.until(t, "gpu-1 apart", has("quarantined", "gpu-1"))
	replay := slices.Clone(noticeOf(t, a, pki.NoticeQuarantined))
	a.command(t, "release", api.Command{Node: "gpu-1"})
	for _, c := range w.all() {
		c.until(t, "gpu-1 is released", and(not(has("quarantined", "gpu-1")), func(api.Status) bool {
			_, apart := c.Roll().Quarantined(victim.Self().ID)
			return !apart && c.Roll().QuarantineEpoch(victim.Self().ID) == 2 && c.Roll().Digest() == a.Roll().Digest()
		}))
	}
	w.whole(t)
	evil.stop()
	r := newRogue(t, evil.dir, netip.Addr{}, a, b)
	r.mustConnect(t)
	notices := map[*citizen][][]byte{}
	for _, c := range honest {
		notices[c] = c.Roll().Notices()
	}
	before, begun := memory(), time.Now()
	var peak uint64
	swell := func() { peak = max(peak, memory()) }

	// Accusations of all the others, pulses that call the site dark, and forged
	// and replayed notices.
	talk, pulse := r.socket(t, portGossip), r.socket(t, portProbe)
	forged := forgedNotices(t, r, victim.Self(), a)
	forged["replayed quarantine"] = replay
	for i := range uint32(60) {
		for _, to := range honest {
			for _, of := range honest {
				for _, inc := range []uint32{i, i + 1, 1 << 20, 1<<31 + i, 0xffffffff} {
					send(t, talk, to.Self().Addr, portGossip, rawAccusation(rawDead, inc, of.Self().ID, r.self.ID))
					send(t, talk, to.Self().Addr, portGossip, rawAccusation(rawDead, inc, of.Self().ID, of.Self().ID))
					send(t, talk, to.Self().Addr, portGossip, rawAccusation(rawSuspect, inc, of.Self().ID, r.self.ID))
				}
			}
			send(t, pulse, to.Self().Addr, portProbe, rawPulse(77, uint64(i)+1, 0, 0, "idc"))
			send(t, pulse, to.Self().Addr, portProbe, rawPulse(77, uint64(i)+1, 0, 0, "aws"))
			for _, n := range forged {
				send(t, talk, to.Self().Addr, portGossip, rawNoticeFrame(n))
			}
		}
		time.Sleep(10 * time.Millisecond)
		for _, c := range []*citizen{a, b} {
			// A machine that is busy makes a gateway undecided, which moves nothing.
			if st := c.status(t); verdictOf("idc", "dark")(st) {
				t.Fatalf("%s: the site is dark: %+v", c.name, st.Sites)
			}
		}
	}
	swell()
	// 20,000 notices of junk, each another; at a pace at which the packets do not
	// merely wait within WireGuard, which has buffers of its own.
	junk := make([]byte, 300)
	source := mrand.NewChaCha8([32]byte{1})
	for i := range 20000 {
		_, _ = source.Read(junk)
		send(t, talk, []*citizen{a, b, victim}[i%3].Self().Addr, portGossip, rawNoticeFrame(junk))
		if i%20 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if i%5000 == 0 {
			swell()
		}
	}
	// Streams that promise a million nodes, and stay open.
	var streams []net.Conn
	for i := range 30 {
		to := w.gateways[i%2]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		conn, err := r.device.Network().DialContext(ctx, "tcp", netip.AddrPortFrom(to.Self().Addr, portGossip))
		cancel()
		if err != nil {
			t.Logf("attacker: stream %d to %s: %v", i, to.name, err)
			continue // over its share, or the flood is still on its way
		}
		conn.SetDeadline(time.Now().Add(time.Second))
		streams = append(streams, conn)
		_, _ = conn.Write(append(rawPushPullHead(1<<20), bytes.Repeat([]byte{0x80}, 1000)...))
		swell()
	}
	time.Sleep(200 * time.Millisecond)
	swell()
	for _, c := range streams {
		c.Close()
	}
	if len(streams) == 0 {
		t.Error("no stream was taken: nothing was tried")
	}
	// One such promise that is believed costs 112 MiB. WireGuard's buffers, of
	// 64 KiB for each packet that waits, are most of what four devices may use.
	grown := int64(peak) - int64(before)
	t.Logf("memory in use grew by %d MiB", grown>>20)
	if grown > 768<<20 {
		t.Errorf("memory in use grew by %d MiB, want at most 768", grown>>20)
	}
	st := a.status(t)
	for _, k := range []string{"gossip.bad-incarnation", "gossip.rate", "gossip.no-news", "gossip.oversize"} {
		if st.Counters[k] == 0 {
			t.Errorf("%s is 0: the attack did not come", k)
		}
	}

	for _, c := range honest {
		if !slices.EqualFunc(notices[c], c.Roll().Notices(), bytes.Equal) {
			t.Errorf("%s believes other notices than before: %+v", c.name, c.Roll().List())
		}
		for _, m := range honest {
			if _, out := c.Roll().Revoked(m.Self().ID); out {
				t.Errorf("%s holds %s revoked", c.name, m.name)
			}
			if _, apart := c.Roll().Quarantined(m.Self().ID); apart {
				t.Errorf("%s holds %s apart", c.name, m.name)
			}
			c.until(t, m.name+" is alive after the attack", memberIs(m.name, "alive"))
		}
	}
	for _, c := range []*citizen{a, b} {
		c.until(t, "the site is up after the attack", verdictOf("idc", "up"))
		for _, e := range must(api.NewClient(c.socket()).Events(t.Context(), 0))(t).Events {
			if strings.Contains(e.Kind, "verdict") && e.To == "dark" && e.At.After(begun) {
				t.Errorf("%s held a site dark: %+v", c.name, e)
			}
		}
	}
}

// memory is what is in use after a collection.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func noticeOf(t *testing.T, c *citizen, kind pki.NoticeKind) []byte {
	t.Helper()
	for _, b := range c.Roll().Notices() {
		if n, err := pki.ReadNotice(b); err == nil && n.Kind == kind {
			return b
		}
	}
	t.Fatalf("%s holds no %s notice", c.name, kind)
	return nil
}

// forgedNotices revoke and set apart the victim, by whoever is no gateway.
func forgedNotices(t *testing.T, r *rogue, victim discovery.Identity, gateway *citizen) map[string][]byte {
	t.Helper()
	d := open(t, gateway.dir)
	mesh := must(pki.MeshOf(must(d.Roots())(t)[0]))(t)
	root, key := must2(pki.NewRoot(mesh, time.Now()))(t)
	own := must(pki.NewSigner(root, key))(t)
	issuerPub, issuerKey := must2(ed25519.GenerateKey(rand.Reader))(t)
	block := must(pki.BlockOf(must(d.Issuer())(t)))(t)
	issuer := must(pki.NewSigner(must(pki.NewIssuer(own, issuerPub, gateway.name, block, time.Now()))(t), issuerKey))(t)
	// The gateway's issuing certificate once more, for the node's key, by that key.
	real := must(x509.ParseCertificate(must(d.Issuer())(t)))(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: real.Subject, NotBefore: real.NotBefore, NotAfter: real.NotAfter, KeyUsage: real.KeyUsage, IsCA: true,
		BasicConstraintsValid: true, MaxPathLenZero: true, PermittedDNSDomainsCritical: true,
		PermittedDNSDomains: real.PermittedDNSDomains, PermittedIPRanges: real.PermittedIPRanges, PermittedURIDomains: real.PermittedURIDomains,
	}
	leaf := must(x509.ParseCertificate(r.chain[0]))(t)
	self := must(pki.NewSigner(must(x509.CreateCertificate(rand.Reader, tmpl, leaf, r.key.Public(), r.key))(t), r.key))(t)
	out := map[string][]byte{}
	for name, s := range map[string]*pki.Signer{"own root": own, "issuer of an own root": issuer, "own node key": self} {
		for _, n := range []pki.Notice{
			{Kind: pki.NoticeRevoked, Node: victim.ID, Reason: "operator"},
			{Kind: pki.NoticeQuarantined, Node: victim.ID, Reason: "clone", Epoch: 1 << 40},
			{Kind: pki.NoticeRevoked, Node: gateway.Self().ID, Reason: "operator"},
		} {
			n.At = time.Now().UTC().Truncate(time.Second)
			out[name+" "+string(n.Kind)+string(n.Node)] = must(pki.SignNotice(s, mesh.Name, n))(t)
		}
	}
	return out
}
