package probe

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"drawbridge/discovery"

	"github.com/google/go-cmp/cmp"
)

func TestPacketRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    packet
		size int
	}{
		{"first pulse", packet{kind: kindPulse, boot: 7, seq: 1, held: -1}, 40},
		{"of a later version", packet{kind: kindPulse, speaks: 9, boot: 7, seq: 1, held: -1}, 40},
		{"answer", packet{kind: kindAnswer, boot: math.MaxUint64, seq: math.MaxUint64, heardBoot: 3, heard: 4, held: 1500 * time.Microsecond}, 40},
		{"views", packet{kind: kindPulse, boot: 7, seq: 2, held: 0, views: []told{
			{[]byte("aws"), discovery.ViewLit, 90 * time.Millisecond},
			{[]byte("idc-seoul"), discovery.ViewDark, 1200 * time.Millisecond},
			{[]byte(strings.Repeat("x", maxSite)), discovery.ViewBlind, -1},
		}}, 40 + 3*6 + 3 + 9 + 32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.p.encode(make([]byte, maxPacket))
			if len(b) != tt.size {
				t.Errorf("%d bytes, want %d", len(b), tt.size)
			}
			var got packet
			if err := got.decode(b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.p, got, cmp.AllowUnexported(packet{}, told{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPacketSaturates(t *testing.T) {
	p := packet{kind: kindPulse, boot: 1, seq: 1, held: 2 * time.Hour, views: []told{{[]byte("a"), "nonsense", 100 * 24 * time.Hour}}}
	var got packet
	if err := got.decode(p.encode(make([]byte, maxPacket))); err != nil {
		t.Fatal(err)
	}
	if got.held >= 0 || got.views[0].state != discovery.ViewBlind || got.views[0].age != proofMax*time.Millisecond {
		t.Errorf("got %+v", got)
	}
}

func TestPacketFits(t *testing.T) {
	p := packet{kind: kindPulse, boot: 1, seq: 1}
	for range 2 * maxViews {
		p.views = append(p.views, told{bytes.Repeat([]byte("s"), maxSite), discovery.ViewLit, 0})
	}
	if b := p.encode(make([]byte, maxPacket)); len(b) > maxPacket || b[2] != maxViews {
		t.Errorf("%d bytes with %d views", len(b), b[2])
	}
}

func TestPacketRefused(t *testing.T) {
	good := packet{kind: kindPulse, boot: 1, seq: 1, views: []told{{[]byte("idc"), discovery.ViewLit, 0}}}
	edit := func(f func(b []byte) []byte) []byte { return f(good.encode(make([]byte, maxPacket))) }
	set := func(i int, v byte) []byte { return edit(func(b []byte) []byte { b[i] = v; return b }) }
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, errMalformed},
		{"other version", set(0, 3), errVersion},
		{"short", set(2, 0)[:39], errMalformed},
		{"kind 0", set(1, 0), errMalformed},
		{"kind 4", set(1, 4), errMalformed},
		{"boot 0", set(11, 0), errMalformed},
		{"sequence 0", set(19, 0), errMalformed},
		{"more views than it holds", set(2, 2), errMalformed},
		{"more views than allowed", set(2, maxViews+1), errMalformed},
		{"fewer views than it holds", set(2, 0), errMalformed},
		{"empty name", set(headerLen, 0), errMalformed},
		{"name past the end", set(headerLen, 4), errMalformed},
		{"control character", set(headerLen+viewHead, '\n'), errMalformed},
		{"unknown state", set(headerLen+1, 4), errMalformed},
		{"too long", make([]byte, maxPacket+1), errVersion},
		{"too long, version 1", append([]byte{1, 1}, make([]byte, maxPacket)...), errMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p packet
			if err := p.decode(tt.b); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzDecode: what is taken is exactly what encode writes, and no packet moves a peer's proof beyond what was sent to it.
func FuzzDecode(f *testing.F) {
	for _, p := range []packet{
		{kind: kindPulse, boot: 1, seq: 1, held: -1},
		{kind: kindRequest, boot: 2, seq: 300, heardBoot: 5, heard: 10, held: time.Second},
		{kind: kindAnswer, boot: 2, seq: 300, heardBoot: 5, heard: 999, views: []told{{[]byte("idc"), discovery.ViewDark, -1}}},
	} {
		f.Add(p.encode(make([]byte, maxPacket)))
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p packet
		if p.decode(b) != nil {
			return
		}
		if got := p.encode(make([]byte, maxPacket)); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes and encodes to %x", b, got)
		}
		now := time.Unix(1000, 0)
		q := peer{first: 3, seq: 3}
		for range 20 {
			q.stamp(now)
		}
		for range 2 {
			if proof, _ := q.receive(&p, 5, now.Add(time.Second)); proof && (p.heardBoot != 5 || p.heard <= 3 || p.heard > 23) {
				t.Fatalf("proof from %+v", p)
			}
			q.hear(p.views, now)
		}
		if q.rtt < 0 || len(q.views) > maxViews {
			t.Fatalf("peer %+v", q)
		}
	})
}
