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
	want := record{ID: p.id.ID, Seq: 1 << 60, Floor: maxIncarnation, Leaf: digest{9}, Announcement: full}
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
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for n := range b {
		if _, err := decodeRecord(b[:n]); err == nil {
			t.Fatalf("truncated at %d of %d it is still a record", n, len(b))
		}
	}
	// What a newer version appends is kept, covered and ignored.
	longer := append(b[:len(b)-1:len(b)-1], 5, 200, 3, 'n', 'e', 'w')
	if _, err := decodeRecord(longer); err != nil {
		t.Errorf("an extension is refused: %v", err)
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
