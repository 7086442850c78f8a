package gossip

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
)

func TestRecordBoundsAreTheSameBothWays(t *testing.T) {
	p := newPerson(newAuthority("root"), 1, discovery.RoleGateway)
	full := announcement("x", 1)
	full.Services = nil
	for i := range maxServices {
		name := []byte("service-000000000000000000000000000000000000000000000000000000-00")
		name[0], name[1] = byte('a'+i/26), byte('a'+i%26)
		full.Services = append(full.Services, discovery.Service{Name: string(name[:maxName]), Port: 65535, Check: discovery.CheckFailing, Capacity: maxCapacity})
	}
	full.Seen, full.Local, full.Direct = whereabouts(maxSeen), whereabouts(maxLocal), neighbours(maxDirect)
	full.Trust = 1<<64 - 1
	want := record{ID: p.id.ID, Seq: 1 << 60, Floor: maxIncarnation, Leaf: digest{9}, Whole: digest{7}, Announcement: full}
	b, err := encodeRecord(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxSigned-64 {
		t.Errorf("the largest record has %d bytes, more than %d", len(b), maxSigned-64)
	}
	got, err := decodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for n := range b {
		if _, err := decodeRecord(b[:n]); err == nil {
			t.Fatalf("truncated at %d of %d it is still a record", n, len(b))
		}
	}
	// What a newer version appends is kept, covered and ignored.
	plain, err := encodeRecord(record{ID: p.id.ID, Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	longer := append(plain[:len(plain)-1:len(plain)-1], 5, 200, 3, 'n', 'e', 'w')
	if _, err := decodeRecord(longer); err != nil {
		t.Errorf("an extension is refused: %v", err)
	}
}

// whereabouts are n addresses, sorted, as long as they come.
func whereabouts(n int) (list []netip.AddrPort) {
	for i := range n {
		a := netip.MustParseAddr("2001:db8::ffff:ffff").As16()
		a[4] = byte(i)
		list = append(list, netip.AddrPortFrom(netip.AddrFrom16(a), 65535))
	}
	return list
}

func neighbours(n int) (list []netip.Addr) {
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{10, 86, 1, byte(i)}))
	}
	return list
}

// The record of a server with all neighbours that it may have still travels in
// one datagram: otherwise a change of path would wait for seconds.
func TestRecordOfAFullServerFitsADatagram(t *testing.T) {
	a := announcement("x", 1)
	a.Local, a.Direct = whereabouts(maxLocal), neighbours(maxDirect)
	a.Seen = whereabouts(maxSeen)
	p := newPerson(newAuthority("root"), 1, discovery.RoleServer)
	signed := p.signed(testName, record{Seq: 1 << 40, Whole: digest{1}, Announcement: a})
	f := appendItem(frame(meshTag(testName), kindItems), item{record: signed})
	if most := 1280 - headers; len(f)+1 > most {
		t.Errorf("%d bytes, at most %d", len(f)+1, most)
	}
}

func TestWhereaboutsBounds(t *testing.T) {
	ep := netip.MustParseAddrPort
	for _, tt := range []struct {
		name string
		a    discovery.Announcement
		good bool
	}{
		{"a full server", discovery.Announcement{Trust: 1<<64 - 1, Seen: whereabouts(4), Local: whereabouts(8), Direct: neighbours(60)}, true},
		{"a full gateway", discovery.Announcement{Young: true, Trust: 1<<64 - 1, Seen: whereabouts(4), Streams: whereabouts(4), Names: []string{"gw-a.example.com:51820", "gw-b.example.com:51820"}}, true},
		{"everything at once", discovery.Announcement{Seen: whereabouts(4), Local: whereabouts(8), Direct: neighbours(60), Streams: whereabouts(4)}, false},
		{"too many neighbours", discovery.Announcement{Direct: neighbours(61)}, false},
		{"too many streams", discovery.Announcement{Streams: whereabouts(5)}, false},
		{"unsorted", discovery.Announcement{Local: []netip.AddrPort{ep("192.0.2.2:1"), ep("192.0.2.1:1")}}, false},
		{"a neighbour twice", discovery.Announcement{Direct: append(neighbours(1), neighbours(1)...)}, false},
		{"a neighbour in IPv6", discovery.Announcement{Direct: []netip.Addr{netip.IPv6LinkLocalAllNodes()}}, false},
		{"no port", discovery.Announcement{Seen: []netip.AddrPort{ep("192.0.2.1:0")}}, false},
		{"a name without a port", discovery.Announcement{Names: []string{"gw.example.com"}}, false},
		{"an address for a name", discovery.Announcement{Names: []string{"192.0.2.1:1"}}, false},
		{"an escape in a name", discovery.Announcement{Names: []string{"gw\x1b[2J.example.com:1"}}, false},
		{"three names", discovery.Announcement{Names: []string{"a:1", "b:1", "c:1"}}, false},
	} {
		if err := checkAnnouncement(tt.a); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	for i := range 3 {
		if !b.take(now, 3, 1) {
			t.Fatalf("token %d refused", i)
		}
	}
	if b.take(now, 3, 1) {
		t.Error("a fourth token of three")
	}
	if !b.take(now.Add(1500*time.Millisecond), 3, 1) || b.take(now.Add(1500*time.Millisecond), 3, 1) {
		t.Error("want exactly one token back after 1.5 s")
	}
	if b.take(now.Add(-time.Hour), 3, 1) || b.used > 3 {
		t.Error("a clock set back must neither give tokens nor take them")
	}
}
