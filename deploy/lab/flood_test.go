package lab

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// TestFloodTellsHowConnectionsEnd attacks a listener that hangs up at once.
func TestFloodTellsHowConnectionsEnd(t *testing.T) {
	token, err := pki.NewToken(pki.Token{
		Mesh: MeshName, Addrs: []string{"127.0.0.1:1"}, Pin: [32]byte{1}, Site: strangersSite,
		Role: discovery.RoleServer, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]bool{}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			from[host] = true
			_ = c.Close()
		}
	})
	a := attacker{token: token, attackPlan: attackPlan{
		Gateway: netip.MustParseAddrPort(ln.Addr().String()), From: strangersLoopback, Dir: t.TempDir(),
		Connections: 5 * len(attacks), For: 50 * time.Millisecond,
	}}
	got := a.run(t.Context())
	_ = ln.Close()
	tasks.Wait()
	for _, k := range got.Kinds {
		if k.Made != 5 || k.Refused != 5 {
			t.Errorf("%+v, want 5 made and refused", k)
		}
	}
	if sum := got.total(); sum.Made != 5*len(attacks) || sum.Refused != sum.Made {
		t.Errorf("total %+v", sum)
	}
	if len(from) < len(attacks) {
		t.Errorf("connections came from %d addresses only", len(from))
	}
}

func TestAttackerTellsHeldFromRefused(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if err := near.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := drain(near); got != held {
		t.Errorf("a connection that nobody ends: %v, want held", got)
	}
	near, far = net.Pipe()
	defer near.Close()
	far.Close()
	if got := drain(near); got != refused {
		t.Errorf("a connection that was ended: %v, want refused", got)
	}
	if got := endOf(nil); got != admitted {
		t.Errorf("an answer to an oversized frame: %v, want admitted", got)
	}
}

func TestHealthSees(t *testing.T) {
	age := func(s float64) *api.Seconds { a := api.Seconds(s); return &a }
	lit := []api.Site{{Site: SiteRoom, Views: []api.View{{Observer: "gw-a", State: "lit"}}}}
	var h health
	h.see(api.Status{
		Self: api.Self{ID: "1", Name: "gw-a"}, Sites: lit,
		Members: []api.Member{{ID: "1", ProofAge: age(99)}, {ID: "2", Site: strangersSite, ProofAge: age(98)}, {ID: "3", Site: SiteRoom, ProofAge: age(0.25)}, {ID: "4"}},
	})
	if h.proof != 250*time.Millisecond || h.unlit != 0 {
		t.Errorf("proof %s, unlit %d", h.proof, h.unlit)
	}
	h.see(api.Status{Self: api.Self{ID: "1", Name: "gw-b"}, Sites: lit}) // its own view is missing
	h.see(api.Status{Self: api.Self{ID: "1", Name: "gw-a"}})
	if h.unlit != 2 {
		t.Errorf("unlit %d, want 2", h.unlit)
	}
}

// TestReportFloodFindsBrokenPromises has one flood that the gateway bore, and
// one for each promise that it can break.
func TestReportFloodFindsBrokenPromises(t *testing.T) {
	bore := func() flood {
		return flood{
			attack: Attack{Took: 2 * time.Second, Kinds: []AttackKind{{Kind: "silent", Made: 10, Refused: 10, InTime: 8}}},
			joined: []Joined{{Took: time.Second}},
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*flood)
		want  string // part of the error; "": none
	}{
		{"bore it", func(*flood) {}, ""},
		{"let one in", func(f *flood) { f.attack.Kinds[0].Admitted = 1 }, "got an answer"},
		{"held one", func(f *flood) { f.attack.Kinds[0].Held = 1 }, "were held"},
		{"the attacker was too weak", func(f *flood) { f.attack.Kinds[0].Broken = 1 }, "could not be made"},
		{"nobody joined", func(f *flood) { f.joined = nil }, "no honest host"},
		{"an honest join failed", func(f *flood) { f.joined[0].Err = "busy" }, "honest joins failed"},
		{"the verdict moved", func(f *flood) {
			f.e.notes = []Note{{"gw-a", api.Event{Kind: api.KindVerdict, Subject: SiteRoom, To: "dark"}}}
		}, "site idc is dark"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, r := bore(), newReport("flood", Loopback, nil)
			tt.spoil(&f)
			err := reportFlood(r, f)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if got := r.figure("turned away", "").Values[0]; got != 4 {
				t.Errorf("%g turned away a second, want 4", got)
			}
		})
	}
}
