package lab

import (
	"net/netip"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// TestStrangersAreApart gives every stranger an address of its own, in a
// network that as few others as possible share.
func TestStrangersAreApart(t *testing.T) {
	for _, p := range []netip.Prefix{strangersPrefix, strangersLoopback} {
		seen, networks := map[netip.Addr]bool{}, map[netip.Prefix]int{}
		const n = 20000
		for i := range n {
			a := stranger(p, i)
			if !p.Contains(a) || seen[a] {
				t.Fatalf("stranger %d of %s is %s: outside, or twice", i, p, a)
			}
			seen[a] = true
			network, err := a.Prefix(24)
			if err != nil {
				t.Fatal(err)
			}
			networks[network]++
		}
		for network, got := range networks {
			if len(networks) != 512 || got > n/512+1 {
				t.Errorf("%d networks, %d strangers in %s", len(networks), got, network)
			}
		}
	}
	if got := stranger(strangersPrefix, 513).String(); got != "198.18.1.2" {
		t.Errorf("stranger 513 is %s, want 198.18.1.2", got)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tt := range []struct {
		name   string
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", hundred[:1], 0.99, 1},
		{"median of two", hundred[:2], 0.5, 1},
		{"median of three", hundred[:3], 0.5, 2},
		{"p50 of a hundred", hundred, 0.5, 50},
		{"p99 of a hundred", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := quantile(tt.sorted, tt.q); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestReportJoinsCountsWhatEndedInTime(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(start, took int, err string) Joined {
		return Joined{Start: began.Add(time.Duration(start) * time.Second), Took: time.Duration(took) * time.Second, Err: err}
	}
	r := newReport("joins", Loopback, nil)
	reportJoins(r, []Joined{at(4, 2, ""), at(0, 1, ""), at(1, 3, ""), at(2, 1, "refused"), at(9, 2, "")}, 10*time.Second)
	want := map[string]float64{"joins": 0.3, "one join, p50": 2, "one join, p99": 3, "one join, longest": 3, "joins that failed": 1}
	for _, f := range r.Figures {
		if len(f.Values) != 1 || f.Values[0] != want[f.Name] {
			t.Errorf("%s: %v, want %v", f.Name, f.Values, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("not reported: %v", want)
	}
}

func TestLastGood(t *testing.T) {
	sent := time.Unix(1000, 0)
	at := func(start, took time.Duration, err string) Request {
		return Request{Start: sent.Add(start), Took: took, Err: err}
	}
	const ms = time.Millisecond
	for _, tt := range []struct {
		name  string
		asked []Request
		want  float64 // seconds; -1: none
	}{
		{"nothing asked", nil, -1},
		{"answered only before", []Request{at(-20*ms, 5*ms, "")}, -1},
		{"asked before, answered after", []Request{at(-20*ms, 30*ms, "")}, 0.01},
		{"the last one failed", []Request{at(50*ms, 10*ms, ""), at(80*ms, 2*time.Second, "timeout")}, 0.06},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := lastGood(tt.asked, sent)
			if (got == nil) != (tt.want < 0) || got != nil && float64(*got) != tt.want {
				t.Errorf("got %v, want %v", after(got), tt.want)
			}
		})
	}
}

// TestForeignTokenIsWellFormed makes one that differs in what counts only.
func TestForeignTokenIsWellFormed(t *testing.T) {
	real, err := pki.NewToken(pki.Token{
		Mesh: MeshName, Addrs: []string{"203.0.113.11:51820"}, Pin: [32]byte{1}, Site: strangersSite,
		Role: discovery.RoleServer, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := foreignToken(real.Encode())
	if err != nil {
		t.Fatal(err)
	}
	got, err := pki.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == real.ID || got.Public().Equal(real.Public()) || got.Mesh != real.Mesh || got.Pin != real.Pin || got.Site != real.Site {
		t.Errorf("foreign %s, real %s", got, real)
	}
	if _, err := foreignToken("dbt1_x"); err == nil {
		t.Error("no token: want an error")
	}
}
