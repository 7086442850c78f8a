package bind

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"drawbridge/tunnel/internal/nstest"
	"drawbridge/tunnel/internal/queue"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const patience = 5 * time.Second

// end is an open bind with a goroutine per socket that collects what comes.
type end struct {
	t    *testing.T
	bind conn.Bind
	port uint16
	got  chan arrival
	done sync.WaitGroup
}

type arrival struct {
	data string
	from conn.Endpoint
}

func open(t *testing.T, b conn.Bind, port uint16) *end {
	t.Helper()
	fns, port, err := b.Open(port)
	if err != nil {
		t.Fatal(err)
	}
	e := &end{t: t, bind: b, port: port, got: make(chan arrival, 1<<14)}
	for _, f := range fns {
		e.done.Go(func() { e.collect(f) })
	}
	t.Cleanup(e.close)
	return e
}

func (e *end) collect(f conn.ReceiveFunc) {
	n := e.bind.BatchSize()
	packets, sizes, eps := make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
	for i := range packets {
		packets[i] = make([]byte, 1<<16-1)
	}
	for {
		k, err := f(packets, sizes, eps)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.t.Errorf("receive: %v", err)
			return
		}
		for i := range k {
			if sizes[i] > 0 {
				e.got <- arrival{string(packets[i][:sizes[i]]), eps[i]}
			}
		}
	}
}

func (e *end) close() {
	if err := e.bind.Close(); err != nil {
		e.t.Errorf("close: %v", err)
	}
	e.done.Wait()
}

func (e *end) next() arrival {
	e.t.Helper()
	select {
	case a := <-e.got:
		return a
	case <-time.After(patience):
		e.t.Fatal("nothing came")
		return arrival{}
	}
}

func (e *end) send(to conn.Endpoint, bufs ...[]byte) {
	e.t.Helper()
	if err := e.bind.Send(bufs, to); err != nil {
		e.t.Fatalf("send: %v", err)
	}
}

func (e *end) at(host string) conn.Endpoint { return e.parse(host, e.port) }

// parse reads an endpoint for another bind's use; both forms are equal.
func (e *end) parse(host string, port uint16) conn.Endpoint {
	e.t.Helper()
	ep, err := e.bind.ParseEndpoint(netip.AddrPortFrom(netip.MustParseAddr(host), port).String())
	if err != nil {
		e.t.Fatal(err)
	}
	return ep
}

// to is where o is, as an endpoint of e's kind.
func (e *end) to(o *end, host string) conn.Endpoint { return e.parse(host, o.port) }

// loopback brings up what a fresh namespace has down.
func loopback(t *testing.T) {
	t.Helper()
	if l, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(l) != nil && l.Attrs().Flags&net.FlagUp == 0 {
		t.Fatalf("bring up loopback: %v", err)
	}
}

// batchOf makes packets that tell their number, of the given sizes.
func batchOf(sizes ...int) (bufs [][]byte) {
	for i, n := range sizes {
		b := bytes.Repeat([]byte{byte(i)}, n)
		copy(b, fmt.Sprintf("%d:", i))
		bufs = append(bufs, b)
	}
	return bufs
}

// TestAgainstModule exchanges batches with the module's own bind, which is
// what other WireGuards do, and between two of ours.
func TestAgainstModule(t *testing.T) {
	loopback(t)
	sizes := []int{1400, 1400, 1400, 900, 1400, 60, 60, 60, 1, 1, 1500, 1500}
	many := slices.Repeat([]int{1200}, conn.IdealBatchSize)
	for _, tt := range []struct {
		name string
		a, b conn.Bind
	}{
		{"ours to ours", New(&queue.Transit{}, nil), New(nil, nil)},
		{"ours to the module's", New(&queue.Transit{}, nil), conn.NewStdNetBind()},
	} {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(tt.name+" on "+host, func(t *testing.T) {
				a, b := open(t, tt.a, 0), open(t, tt.b, 0)
				for _, batch := range [][][]byte{batchOf(sizes...), batchOf(many...), batchOf(65480), batchOf(7)} {
					a.send(a.to(b, host), batch...)
					var back conn.Endpoint
					for i, want := range batch {
						got := b.next()
						if got.data != string(want) {
							t.Fatalf("there: packet %d of %d bytes is %d bytes, %.8q", i, len(want), len(got.data), got.data)
						}
						back = got.from
					}
					b.send(back, batch...)
					for i, want := range batch {
						if got := a.next(); got.data != string(want) {
							t.Fatalf("back: packet %d of %d bytes is %d bytes, %.8q", i, len(want), len(got.data), got.data)
						}
					}
				}
			})
		}
	}
}

func TestOpenAndClose(t *testing.T) {
	loopback(t)
	b := New(nil, nil)
	if err := b.Close(); err != nil || b.Offload() != "" {
		t.Errorf("a closed bind: close %v, offload %q", err, b.Offload())
	}
	e := open(t, b, 0)
	if _, _, err := b.Open(0); !errors.Is(err, conn.ErrBindAlreadyOpen) {
		t.Errorf("open twice: %v", err)
	}
	if b.Offload() != offloadOn {
		t.Errorf("offload %q, want %q on a kernel of today", b.Offload(), offloadOn)
	}
	other := New(nil, nil)
	if _, _, err := other.Open(e.port); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("open a taken port: %v", err)
	}
	if err := other.Send(batchOf(1), e.at("127.0.0.1")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send on a closed bind: %v", err)
	}
	port := e.port
	e.close() // and its receivers end
	again := open(t, b, port)
	if again.port != port {
		t.Errorf("reopened at %d, want %d", again.port, port)
	}
	again.send(again.at("127.0.0.1"), batchOf(5)...)
	again.next()
	if b.SetMark(0) != nil || b.SetMark(1) == nil {
		t.Error("marks: 0 must be fine, 1 refused")
	}
	if err := b.Send(batchOf(1), &conn.StdNetEndpoint{}); !errors.Is(err, conn.ErrWrongEndpointType) {
		t.Errorf("an endpoint of another bind: %v", err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"192.0.2.1:51820", "192.0.2.1:51820"},
		{"[::ffff:192.0.2.1]:51820", "192.0.2.1:51820"},
		{"[2001:db8::1]:1", "[2001:db8::1]:1"},
		{"[fe80::1%3]:1", "[fe80::1%3]:1"},
		{"[fe80::1%lo]:1", "[fe80::1%1]:1"},
		{"[fe80::1%nothere]:1", ""},
		{"example.com:1", ""},
	} {
		e, err := parseEndpoint(tt.in)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: taken as %v", tt.in, e.DstToString())
			}
			continue
		}
		if err != nil || e.DstToString() != tt.want || e.SrcToString() != "" {
			t.Errorf("%s: %v, %v", tt.in, e, err)
		}
	}
	e, err := parseEndpoint("192.0.2.1:258")
	if err != nil || !bytes.Equal(e.DstToBytes(), []byte{192, 0, 2, 1, 2, 1}) {
		t.Errorf("for cookies: %x, %v", e.DstToBytes(), err)
	}
}

// couple is two namespaces with a cable; the second has two addresses.
func couple(t *testing.T) (a, b *nstest.Space) {
	a, b = nstest.NewSpace(t), nstest.NewSpace(t)
	nstest.Link(t, a, "eth0", netip.MustParsePrefix("192.0.2.1/24"), b, "eth0", netip.MustParsePrefix("192.0.2.2/24"))
	second(t, b, netlink.AddrAdd)
	return a, b
}

func second(t *testing.T, s *nstest.Space, do func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	s.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("192.0.2.3/32")
		if err != nil {
			return err
		}
		return do(l, addr)
	})
}

func openIn(t *testing.T, s *nstest.Space) (e *end) {
	t.Helper()
	s.Do(func() { e = open(t, New(nil, nil), 0) })
	return e
}

// TestTooLargeIsLost sends what the link cannot carry: it must not leave in
// pieces, must not be an error, and must not take others along.
func TestTooLargeIsLost(t *testing.T) {
	sa, sb := couple(t)
	a, b := openIn(t, sa), openIn(t, sb)
	batch := batchOf(1400, 1472, 1473, 60, 3000, 3000, 3000, 1400, 1400)
	a.send(a.to(b, "192.0.2.2"), batch...)
	for _, i := range []int{0, 1, 3, 7, 8} {
		if got := b.next(); got.data != string(batch[i]) {
			t.Fatalf("%d bytes, %.8q came, want packet %d", len(got.data), got.data, i)
		}
	}
	if got := a.bind.(*Bind).Offload(); got != offloadOn {
		t.Errorf("offload %q after that", got)
	}
}

// TestAnswersFromTheAddressAsked is what a gateway with several addresses owes
// to peers behind a NAT.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	sa, sb := couple(t)
	a, b := openIn(t, sa), openIn(t, sb)
	a.send(a.to(b, "192.0.2.3"), batchOf(9)...)
	asked := b.next().from
	if asked.SrcToString() != "192.0.2.3" {
		t.Fatalf("asked at %q", asked.SrcToString())
	}
	answer := func(want string) {
		t.Helper()
		b.send(asked, batchOf(9, 9)...)
		for range 2 {
			if got := a.next().from.DstIP().String(); got != want {
				t.Fatalf("answered from %s, want %s", got, want)
			}
		}
	}
	answer("192.0.2.3")

	// A change that does not concern the peer changes nothing.
	sb.Route(t, netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.1"), "eth0")
	answer("192.0.2.3")

	// The address goes away.
	second(t, sb, netlink.AddrDel)
	answer("192.0.2.2")
	if asked.SrcIP().IsValid() {
		t.Errorf("still sure of %v", asked.SrcIP())
	}

	// WireGuard's own doubt.
	a.send(a.to(b, "192.0.2.2"), batchOf(9)...)
	asked = b.next().from
	asked.ClearSrc()
	answer("192.0.2.2")
	a.send(a.to(b, "192.0.2.2"), batchOf(9)...)
	if got := b.next().from; got == asked || got.SrcToString() != "192.0.2.2" {
		t.Errorf("after a new packet the source is %q", got.SrcToString())
	}
}

// TestICMPErrorsAreHarmless sends to a port where nobody listens.
func TestICMPErrorsAreHarmless(t *testing.T) {
	loopback(t)
	e := open(t, New(nil, nil), 0)
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := e.parse("127.0.0.1", netip.MustParseAddrPort(nobody.LocalAddr().String()).Port())
	_ = nobody.Close()
	for range 20 {
		e.send(closed, batchOf(100, 100)...)
	}
	e.send(e.at("127.0.0.1"), batchOf(5)...)
	if got := e.next(); len(got.data) != 5 {
		t.Errorf("%d bytes came", len(got.data))
	}
}

// TestBurstsRefused plays a network card that cannot cut bursts: kernels
// before 6.11 say EIO.
func TestBurstsRefused(t *testing.T) {
	loopback(t)
	b := New(nil, nil)
	refused := 0
	b.batches.New = func() any {
		q := newBatch()
		real := q.move
		q.move = func(fd uintptr, msgs []message) (int, error) {
			if msgs[0].hdr.Iovlen > 1 {
				refused++
				return 0, unix.EIO
			}
			return real(fd, msgs[:1]) // and one at a time
		}
		return q
	}
	e := open(t, b, 0)
	batch := batchOf(50, 200, 200, 200, 60)
	for range 3 {
		e.send(e.at("127.0.0.1"), batch...)
		for i, want := range batch {
			if got := e.next(); got.data != string(want) {
				t.Fatalf("packet %d: %.8q", i, got.data)
			}
		}
	}
	if refused != 1 {
		t.Errorf("bursts were tried %d times, want once", refused)
	}
	if b.Offload() != offloadRefused {
		t.Errorf("offload %q", b.Offload())
	}
}

// TestMoreThanRoom receives more segments at once than a batch takes.
func TestMoreThanRoom(t *testing.T) {
	loopback(t)
	e := open(t, New(nil, nil), 0)
	n := 5 * conn.IdealBatchSize
	all := batchOf(slices.Repeat([]int{20}, n)...)
	e.send(e.at("127.0.0.1"), all...)
	for i := range n {
		if got := e.next(); got.data != string(all[i]) {
			t.Fatalf("packet %d: %q, want %q", i, got.data, all[i])
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	loopback(t)
	b := New(&queue.Transit{}, nil)
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	to, err := parseEndpoint(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	batch := batchOf(slices.Repeat([]int{1400}, conn.IdealBatchSize)...)
	packets, sizes, eps := make([][]byte, len(batch)), make([]int, len(batch)), make([]conn.Endpoint, len(batch))
	for i := range packets {
		packets[i] = make([]byte, 1<<16)
	}
	got := testing.AllocsPerRun(100, func() {
		if err := b.Send(batch, to); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(batch); {
			k, err := fns[0](packets, sizes, eps)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	})
	if got > 1 { // of a pool that the garbage collector emptied
		t.Errorf("%v allocations for %d packets there and back", got, len(batch))
	}
}

func FuzzReadControl(f *testing.F) {
	for _, src := range []source{{}, {netip.MustParseAddr("192.0.2.1"), 7}, {netip.MustParseAddr("2001:db8::1"), 7}} {
		f.Add(addSegment(addSource(make([]byte, 0, controlRoom), src), 1400))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := readControl(b)
		if got.src.addr.IsValid() && len(b) < unix.CmsgLen(unix.SizeofInet4Pktinfo) {
			t.Errorf("an address out of %d bytes", len(b))
		}
	})
}

func TestControlRoundTrip(t *testing.T) {
	for _, src := range []source{{netip.MustParseAddr("192.0.2.1"), 7}, {netip.MustParseAddr("2001:db8::1"), 9}} {
		b := addSource(make([]byte, 0, controlRoom), src)
		if got := readControl(b); got.src != src || got.segment != 0 {
			t.Errorf("%v became %+v", src, got)
		}
	}
	b := make([]byte, 0, controlRoom)
	b, data := addControl(b, unix.IPPROTO_UDP, unix.UDP_GRO, 4)
	data[0], data[1], data[2], data[3] = 0x78, 5, 0, 0
	if got := readControl(b); got.segment != 1400 {
		t.Errorf("segment %d, want 1400", got.segment)
	}
}
