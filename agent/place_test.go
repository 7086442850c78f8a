package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
)

func addrPorts(text string) (list []netip.AddrPort) {
	for _, s := range strings.Fields(text) {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return list
}

func TestGatewaysSeeOnlyGateways(t *testing.T) {
	ms := []discovery.Member{
		{Record: discovery.Record{Identity: discovery.Identity{ID: "a", Role: discovery.RoleGateway}}},
		{Record: discovery.Record{Identity: discovery.Identity{ID: "b", Role: discovery.RoleServer}}},
		{Record: discovery.Record{Identity: discovery.Identity{ID: "c", Role: discovery.RoleGateway}}},
	}
	at := addrPorts("198.51.100.2:4000 192.0.2.66:1 198.51.100.2:4001")
	obs := []discovery.Observation{{Node: "a", Seen: at[0]}, {Node: "b", Seen: at[1]}, {Node: "c", Seen: at[2]}, {Node: "gone", Seen: at[1]}}
	if got, want := gatewaysSee(ms, obs), addrPorts("198.51.100.2:4000 198.51.100.2:4001"); !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNewestFirst(t *testing.T) {
	for _, tt := range []struct{ name, was, is, want string }{
		{"first words", "", "1.1.1.1:1 2.2.2.2:2", "1.1.1.1:1 2.2.2.2:2"},
		{"unchanged keeps the order", "2.2.2.2:2 1.1.1.1:1", "1.1.1.1:1 2.2.2.2:2", "2.2.2.2:2 1.1.1.1:1"},
		{"new comes first", "2.2.2.2:2 1.1.1.1:1", "1.1.1.1:1 3.3.3.3:3", "3.3.3.3:3 1.1.1.1:1"},
		{"at most four", "", "1.1.1.1:1 1.1.1.1:2 1.1.1.1:3 1.1.1.1:4 1.1.1.1:5", "1.1.1.1:1 1.1.1.1:2 1.1.1.1:3 1.1.1.1:4"},
	} {
		if got := newestFirst(addrPorts(tt.was), addrPorts(tt.is)); !slices.Equal(got, addrPorts(tt.want)) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A new address is told once, a second after it came; a NAT that gives new ports
// all the time makes no storm of records.
func TestSeenIsToldOnce(t *testing.T) {
	e, now := &placeEar{}, time.Unix(1000, 0)
	told := func(d time.Duration, is string) (n int) {
		for end := now.Add(d); now.Before(end); now = now.Add(placeEvery) {
			if e.hear(now, addrPorts(is)) {
				n++
			}
		}
		return n
	}
	if n := told(10*time.Second, "198.51.100.2:4000"); n != 1 {
		t.Errorf("the first address was told %d times", n)
	}
	if n := told(10*time.Second, ""); n != 0 || len(e.seen) != 1 {
		t.Errorf("silence was told %d times, %s is left", n, e.seen)
	}
	if n := told(2*time.Second, "203.0.113.7:4000"); n != 1 || e.seen[0].Addr().String() != "203.0.113.7" {
		t.Errorf("another address was told %d times within two seconds: %s", n, e.seen)
	}
	changes := 0
	for i := range 120 {
		port := []string{"203.0.113.7:5000", "203.0.113.7:5001"}[i/2%2]
		changes += told(time.Second, port)
	}
	if changes > 4 {
		t.Errorf("ports that changed for two minutes made %d records", changes)
	}
	// Flickering between two addresses is never told: neither stands for long.
	flicker := 0
	for i := range 60 {
		flicker += told(time.Second, []string{"192.0.2.1:1", "192.0.2.2:1"}[i%2])
	}
	if flicker != 0 {
		t.Errorf("flickering was told %d times", flicker)
	}
}

func TestLocalAddrsAreOfRealWires(t *testing.T) {
	for _, a := range localAddrs("drawbridge0", netip.MustParsePrefix("10.86.0.0/16"), 51820) {
		if a.Port() != 51820 || a.Addr().IsLoopback() || a.Addr().IsLinkLocalUnicast() {
			t.Errorf("tells %s", a)
		}
	}
	if got := localAddrs("x", netip.MustParsePrefix("0.0.0.0/0"), 51820); slices.ContainsFunc(got, func(a netip.AddrPort) bool { return a.Addr().Is4() }) {
		t.Errorf("tells %s from inside the mesh", got)
	}
	if got := localAddrs("x", netip.MustParsePrefix("10.86.0.0/16"), 0); got != nil {
		t.Errorf("tells %s without a port", got)
	}
}

func TestResolveLeavesOutWhatFails(t *testing.T) {
	e := &nameEar{agent: &Agent{log: slog.New(slog.DiscardHandler)}, lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
		switch host {
		case "gw.example":
			return []netip.Addr{netip.MustParseAddr("::ffff:203.0.113.9"), netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("127.0.0.1")}, nil
		case "many.example":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("192.0.2.5")}, nil
		}
		return nil, errors.New("no such host")
	}}
	got := e.resolve(t.Context(), []string{"gone.example:1", "gw.example:51820", "nonsense"})
	if want := addrPorts("203.0.113.8:51820 203.0.113.9:51820"); !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := e.resolve(t.Context(), []string{"many.example:1"}); len(got) != perName {
		t.Errorf("%d addresses of one name", len(got))
	}
}

func TestOnlySilentGatewaysAreLookedUp(t *testing.T) {
	now := time.Unix(1000, 0)
	gw := func(id discovery.NodeID, names ...string) discovery.Member {
		m := discovery.Member{Record: discovery.Record{Identity: discovery.Identity{ID: id, Role: discovery.RoleGateway}}}
		m.Names = names
		return m
	}
	s := &decide.Snapshot{
		Self:    discovery.Identity{ID: "a"},
		Members: []discovery.Member{gw("a", "a.example:1"), gw("b", "b.example:1"), gw("c", "c.example:1"), gw("d")},
		Sight: discovery.Sight{Started: now.Add(-time.Minute), Observations: []discovery.Observation{
			{Node: "b", Proof: now.Add(-time.Second)}, {Node: "c", Proof: now.Add(-10 * time.Second)},
		}},
	}
	if got := silentGateways(now, s); len(got) != 1 || got[0].ID != "c" {
		t.Errorf("looked up: %+v", got)
	}
	s.Sight.Started = now.Add(-time.Second)
	if got := silentGateways(now, s); got != nil {
		t.Errorf("looked up a second after the start: %+v", got)
	}
}
