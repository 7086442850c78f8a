package gossip

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"drawbridge/discovery"
)

// world is an overlay in memory: datagrams with latency and loss, streams that
// hang when the path is cut, and source addresses that cannot be forged.
type world struct {
	mu      sync.Mutex
	hosts   map[netip.Addr]*host
	cut     func(a, b netip.Addr) bool
	loss    float64
	largest int
	seen    map[[2]netip.Addr]int // datagrams from and to; nil: not counted
	pipes   map[*pipe]struct{}
}

func newWorld() *world {
	return &world{hosts: map[netip.Addr]*host{}, pipes: map[*pipe]struct{}{}}
}

func (w *world) isCut(a, b netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut != nil && w.cut(a, b)
}

// setCut changes which paths are cut and resets the streams on them.
func (w *world) setCut(cut func(a, b netip.Addr) bool) {
	w.mu.Lock()
	w.cut = cut
	var dead []*pipe
	for p := range w.pipes {
		if cut != nil && cut(p.local.Addr(), p.remote.Addr()) {
			dead = append(dead, p)
		}
	}
	w.mu.Unlock()
	for _, p := range dead {
		p.Close()
	}
}

// host is one node's Network.
type host struct {
	w    *world
	addr netip.Addr
	mu   sync.Mutex
	pc   *packetConn
	ln   *listener
	next uint16
}

func (w *world) host(addr netip.Addr) *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts[addr] == nil {
		w.hosts[addr] = &host{w: w, addr: addr, next: 40000}
	}
	return w.hosts[addr]
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

type packetConn struct {
	h      *host
	at     netip.AddrPort
	in     chan datagram
	closed chan struct{}
	once   sync.Once
}

func (h *host) ListenPacket(_ string, at netip.AddrPort) (net.PacketConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pc != nil {
		return nil, errors.New("address in use")
	}
	h.pc = &packetConn{h: h, at: at, in: make(chan datagram, 4096), closed: make(chan struct{})}
	return h.pc, nil
}

// send carries a datagram, from any port of the sender's address.
func (w *world) send(b []byte, from, to netip.AddrPort) {
	w.mu.Lock()
	w.largest = max(w.largest, len(b))
	if w.seen != nil {
		w.seen[[2]netip.Addr{from.Addr(), to.Addr()}]++
	}
	lost := w.loss > 0 && rand.Float64() < w.loss
	dest := w.hosts[to.Addr()]
	w.mu.Unlock()
	if lost || dest == nil || w.isCut(from.Addr(), to.Addr()) {
		return
	}
	d := datagram{slices.Clone(b), from}
	time.AfterFunc(5*time.Millisecond, func() {
		dest.mu.Lock()
		pc := dest.pc
		dest.mu.Unlock()
		if pc == nil {
			return
		}
		select {
		case pc.in <- d:
		default:
		}
	})
}

func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-p.in:
		return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	p.h.w.send(b, p.at, to.(*net.UDPAddr).AddrPort())
	return len(b), nil
}

func (p *packetConn) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.h.mu.Lock()
		p.h.pc = nil
		p.h.mu.Unlock()
	})
	return nil
}
func (p *packetConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.at) }
func (p *packetConn) SetDeadline(time.Time) error      { return nil }
func (p *packetConn) SetReadDeadline(time.Time) error  { return nil }
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }

type listener struct {
	h      *host
	at     netip.AddrPort
	in     chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (h *host) Listen(_ string, at netip.AddrPort) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ln != nil {
		return nil, errors.New("address in use")
	}
	h.ln = &listener{h: h, at: at, in: make(chan net.Conn), closed: make(chan struct{})}
	return h.ln, nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.h.mu.Lock()
		l.h.ln = nil
		l.h.mu.Unlock()
	})
	return nil
}
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// pipe is one end of a stream.
type pipe struct {
	net.Conn
	w             *world
	local, remote netip.AddrPort
}

func (p *pipe) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(p.local) }
func (p *pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }
func (p *pipe) Close() error {
	p.w.mu.Lock()
	delete(p.w.pipes, p)
	p.w.mu.Unlock()
	return p.Conn.Close()
}

func (h *host) DialContext(ctx context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
	if h.w.isCut(h.addr, to.Addr()) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	dest := h.w.host(to.Addr())
	dest.mu.Lock()
	ln := dest.ln
	dest.mu.Unlock()
	if ln == nil {
		return nil, errors.New("connection refused")
	}
	h.mu.Lock()
	h.next++
	from := netip.AddrPortFrom(h.addr, h.next)
	h.mu.Unlock()
	near, far := net.Pipe()
	a := &pipe{Conn: near, w: h.w, local: from, remote: to}
	b := &pipe{Conn: far, w: h.w, local: to, remote: from}
	select {
	case ln.in <- b:
	case <-ln.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h.w.mu.Lock()
	h.w.pipes[a], h.w.pipes[b] = struct{}{}, struct{}{}
	h.w.mu.Unlock()
	return a, nil
}

// authority issues toy certificates: a JSON text and its signature.
type authority struct{ key ed25519.PrivateKey }

func newAuthority(name string) authority {
	seed := sha256.Sum256([]byte(name))
	return authority{ed25519.NewKeyFromSeed(seed[:])}
}

type toyCert struct {
	ID  discovery.Identity
	Key []byte
}

func (a authority) issue(id discovery.Identity, key ed25519.PublicKey) [][]byte {
	text, err := json.Marshal(toyCert{id, key})
	if err != nil {
		panic(err)
	}
	return [][]byte{append(ed25519.Sign(a.key, text), text...)}
}

func (a authority) verify(chain [][]byte) (discovery.Identity, ed25519.PublicKey, error) {
	if len(chain) == 0 || len(chain[0]) < ed25519.SignatureSize {
		return discovery.Identity{}, nil, errors.New("no certificate")
	}
	sig, text := chain[0][:ed25519.SignatureSize], chain[0][ed25519.SignatureSize:]
	if !ed25519.Verify(a.key.Public().(ed25519.PublicKey), text, sig) {
		return discovery.Identity{}, nil, errors.New("other root")
	}
	var c toyCert
	if err := json.Unmarshal(text, &c); err != nil {
		return discovery.Identity{}, nil, err
	}
	return c.ID, c.Key, nil
}

// person is a node's lasting part: key, identity, chain.
type person struct {
	key   ed25519.PrivateKey
	id    discovery.Identity
	chain [][]byte
}

var (
	testMesh = netip.MustParsePrefix("10.77.0.0/16")
	testEnd  = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newPerson(a authority, n int, role discovery.Role) *person {
	seed := sha256.Sum256(fmt.Appendf(nil, "person %d", n))
	p := &person{key: ed25519.NewKeyFromSeed(seed[:])}
	pub := p.key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(pub)
	p.id = discovery.Identity{
		ID:       discovery.NodeID(hex.EncodeToString(sum[:16])),
		Name:     fmt.Sprintf("node-%d", n),
		Site:     "aws",
		Role:     role,
		Addr:     netip.AddrFrom4([4]byte{10, 77, byte(n >> 8), byte(n)}),
		NotAfter: testEnd,
	}
	p.chain = a.issue(p.id, pub)
	return p
}

func (p *person) sign(b []byte) []byte { return ed25519.Sign(p.key, b) }

// signed is a record of this person's, ready to send.
func (p *person) signed(mesh string, r record) []byte {
	r.ID, r.Leaf = p.id.ID, digestOf(p.chain[0])
	body, err := encodeRecord(r)
	if err != nil {
		panic(err)
	}
	return append(body, p.sign(signedText(mesh, body))...)
}

const testName = "lab"

func (p *person) options(w *world, a authority) Options {
	return Options{
		MeshName: testName,
		Mesh:     testMesh,
		Self:     p.id,
		Chain:    p.chain,
		Sign:     p.sign,
		Verify:   a.verify,
		Network:  w.host(p.id.Addr),
	}
}

// village is a number of running nodes.
type village struct {
	t    *testing.T
	w    *world
	root authority
	list []*villager
}

type villager struct {
	*Gossip
	*person
	stop func()
}

func newVillage(t *testing.T) *village {
	v := &village{t: t, w: newWorld(), root: newAuthority("root")}
	t.Cleanup(v.end)
	return v
}

func (v *village) person(n int, role discovery.Role) *person { return newPerson(v.root, n, role) }

// start runs a person's node with what it remembers.
func (v *village) start(p *person, blobs [][]byte, change ...func(*Options)) *villager {
	v.t.Helper()
	x := v.run(p, blobs, change...)
	if err := x.Announce(announcement(p.id.Name, 1)); err != nil {
		v.t.Fatal(err)
	}
	return x
}

// run is start without an announcement.
func (v *village) run(p *person, blobs [][]byte, change ...func(*Options)) *villager {
	v.t.Helper()
	o := p.options(v.w, v.root)
	for _, c := range change {
		c(&o)
	}
	g, err := New(o)
	if err != nil {
		v.t.Fatal(err)
	}
	g.Import(blobs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	<-g.Ready()
	x := &villager{Gossip: g, person: p}
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			v.t.Errorf("run: %v", err)
		}
	})
	v.list = append(v.list, x)
	return x
}

// populate starts gateways, then servers that were enrolled at the first
// gateway: it knows them, and they know it.
func (v *village) populate(gateways, servers int, change ...func(*Options)) []*villager {
	v.t.Helper()
	var people []*person
	for n := range gateways + servers {
		role := discovery.RoleServer
		if n < gateways {
			role = discovery.RoleGateway
		}
		people = append(people, v.person(n+1, role))
	}
	first := v.start(people[0], nil, change...)
	out := []*villager{first}
	for _, p := range people[1:] {
		if err := first.Introduce(p.chain); err != nil {
			v.t.Fatal(err)
		}
		out = append(out, v.start(p, first.Export(), change...))
	}
	return out
}

// end stops all and lets memberlist's last timers run out: its Shutdown does
// not wait for probes under way.
func (v *village) end() {
	if len(v.list) == 0 {
		return
	}
	var wg sync.WaitGroup
	for _, x := range v.list {
		wg.Go(x.stop)
	}
	wg.Wait()
	time.Sleep(2 * time.Minute)
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	if v.w.largest > 1280-28 {
		v.t.Errorf("largest datagram %d bytes, want at most %d", v.w.largest, 1280-28)
	}
}

// within waits for a condition, in steps of 100 ms of virtual time.
func (v *village) within(limit time.Duration, what string, ok func() bool) time.Duration {
	v.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			for _, x := range v.list {
				v.t.Logf("%s: %s", x.id.Name, brief(x.Members()))
				if os.Getenv("GOSSIP_COUNTERS") != "" {
					v.t.Logf("  %v", x.Counters())
				}
			}
			v.t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(start)
}

func brief(ms []discovery.Member) string {
	s := ""
	for _, m := range ms {
		s += fmt.Sprintf("%s=%s/%d ", m.Name, m.State, m.Seq)
	}
	return s
}

// sees reports whether g holds these nodes in that state, with records.
func sees(g *villager, state discovery.MemberState, of ...*villager) bool {
	held := map[discovery.NodeID]discovery.Member{}
	for _, m := range g.Members() {
		held[m.ID] = m
	}
	for _, o := range of {
		if m, ok := held[o.id.ID]; !ok || m.State != state || m.Seq == 0 {
			return false
		}
	}
	return true
}

func allSee(list []*villager) func() bool {
	return func() bool {
		for _, g := range list {
			if !sees(g, discovery.StateAlive, list...) {
				return false
			}
		}
		return true
	}
}

func member(g *villager, id discovery.NodeID) (discovery.Member, bool) {
	for _, m := range g.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return discovery.Member{}, false
}

func announcement(name string, boot uint64) discovery.Announcement {
	return discovery.Announcement{
		Boot:      boot,
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51820")},
		Services:  []discovery.Service{{Name: "web-" + name, Port: 80, Check: discovery.CheckPassing, Capacity: 4}},
		Version:   "v1.0.0",
	}
}
