package verdict

import (
	"testing"
	"time"

	"drawbridge/discovery"
)

var (
	now      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	patience = Patience{AloneAfter: 2 * time.Second, PeerSilent: 2 * time.Second, ViewFresh: 300 * time.Millisecond}
)

func ago(s float64) time.Time { return now.Add(-time.Duration(s * float64(time.Second))) }

func TestOwn(t *testing.T) {
	base := Seen{Started: ago(100), At: now, Known: ago(100)}
	with := func(change func(*Seen)) Seen { s := base; change(&s); return s }
	for _, c := range []struct {
		name string
		in   Seen
		want discovery.ViewState
		why  discovery.Reason
	}{
		{"proof just in time", with(func(s *Seen) { s.LastProof = ago(1) }), discovery.ViewLit, discovery.ReasonProof},
		{"proof too old", with(func(s *Seen) { s.LastProof = ago(1.001) }), discovery.ViewDark, ""},
		{"no report yet", Seen{}, discovery.ViewBlind, discovery.ReasonStarting},
		{"report is stale", with(func(s *Seen) { s.LastProof, s.At = ago(5), ago(1.1) }), discovery.ViewBlind, discovery.ReasonPaused},
		{"paused, silent since", with(func(s *Seen) { s.LastProof, s.Paused = ago(3), ago(0.5) }), discovery.ViewBlind, discovery.ReasonPaused},
		{"paused longer ago", with(func(s *Seen) { s.LastProof, s.Paused = ago(3), ago(1.5) }), discovery.ViewDark, ""},
		{"cannot send", with(func(s *Seen) { s.LastProof, s.SendErr = ago(3), ago(2) }), discovery.ViewBlind, discovery.ReasonSendErrors},
		{"cannot send since the silence began", with(func(s *Seen) { s.LastProof, s.SendErr = ago(1.1), ago(0.9) }), discovery.ViewBlind, discovery.ReasonSendErrors},
		{"one lost send", with(func(s *Seen) { s.LastProof, s.SendErr = ago(3), ago(0.1) }), discovery.ViewDark, ""},
		{"lit in spite of send errors", with(func(s *Seen) { s.LastProof, s.SendErr = ago(0.5), ago(2) }), discovery.ViewLit, discovery.ReasonProof},
		{"never proven, long after the start", base, discovery.ViewDark, ""},
		{"never proven, just started", with(func(s *Seen) { s.Started, s.Known = ago(29), ago(29) }), discovery.ViewBlind, discovery.ReasonStarting},
		{"never proven, site just known", with(func(s *Seen) { s.Known = ago(29) }), discovery.ViewBlind, discovery.ReasonStarting},
		{"proven for a moment, just started", with(func(s *Seen) { s.Started, s.LastProof = ago(10), ago(3) }), discovery.ViewBlind, discovery.ReasonStarting},
		{"steady, then dark, just started", with(func(s *Seen) { s.Started, s.LastProof, s.Steady = ago(10), ago(3), true }), discovery.ViewDark, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, why := Own(now, c.in, time.Second, 30*time.Second); got != c.want || why != c.why {
				t.Errorf("got %s (%s), want %s (%s)", got, why, c.want, c.why)
			}
		})
	}
}

func TestOf(t *testing.T) {
	told := func(v discovery.ViewState) Gateway {
		return Gateway{ID: "b", Heard: ago(0.1), View: v, Told: ago(0.1)}
	}
	dark := Evidence{Observer: true, Nodes: 3, Own: discovery.ViewDark, Started: ago(1000), LastProof: ago(1.1)}
	with := func(change func(*Evidence)) Evidence { e := dark; change(&e); return e }
	gates := func(gs ...Gateway) Evidence { return with(func(e *Evidence) { e.Gateways = gs }) }
	long := func(gs ...Gateway) Evidence {
		return with(func(e *Evidence) { e.Gateways, e.LastProof = gs, ago(3) })
	}
	for _, c := range []struct {
		name string
		in   Evidence
		want Verdict
		why  discovery.Reason
	}{
		{"no nodes", with(func(e *Evidence) { e.Nodes = 0 }), Undecided, discovery.ReasonNoNodes},
		{"a server", with(func(e *Evidence) { e.Observer = false }), Undecided, discovery.ReasonNotObserver},
		{"own lit", with(func(e *Evidence) { e.Own = discovery.ViewLit }), Up, discovery.ReasonProof},
		{"own blind", with(func(e *Evidence) { e.Own, e.Why = discovery.ViewBlind, discovery.ReasonPaused }), Undecided, discovery.ReasonPaused},
		{"own blind, other lit", with(func(e *Evidence) { e.Own, e.Gateways = discovery.ViewBlind, []Gateway{told(discovery.ViewLit)} }), Up, discovery.ReasonProof},
		{"other lit", gates(told(discovery.ViewLit)), Up, discovery.ReasonProof},
		{"both dark", gates(told(discovery.ViewDark)), Dark, discovery.ReasonAllDark},
		{"other blind: alone, too early", gates(told(discovery.ViewBlind)), Undecided, discovery.ReasonAlone},
		{"other blind: alone", long(told(discovery.ViewBlind)), Dark, discovery.ReasonAloneDark},
		{"other's view stale", gates(Gateway{Heard: ago(0.1), View: discovery.ViewDark, Told: ago(0.4)}), Undecided, discovery.ReasonDisagree},
		{"other never told", gates(Gateway{Heard: ago(0.1)}), Undecided, discovery.ReasonDisagree},
		{"one dark, one stale", gates(told(discovery.ViewDark), Gateway{Heard: ago(0.1)}), Undecided, discovery.ReasonDisagree},
		{"no other, too early", dark, Undecided, discovery.ReasonAlone},
		{"no other", long(), Dark, discovery.ReasonAloneDark},
		{"other left, its light is old news", long(Gateway{Left: true, Heard: ago(0.1), View: discovery.ViewLit, Told: ago(0.1)}), Dark, discovery.ReasonAloneDark},
		{"other gone long before", long(Gateway{Heard: ago(20)}), Dark, discovery.ReasonAloneDark},
		{"other dead for long", long(Gateway{Heard: ago(4), Dead: ago(31)}), Dark, discovery.ReasonAloneDark},
		{"other dead, not for long", long(Gateway{Heard: ago(4), Dead: ago(29)}), Undecided, discovery.ReasonIsolated},
		{"other silent with the site", long(Gateway{Heard: ago(3)}), Undecided, discovery.ReasonIsolated},
		{"the same, a witness", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Witness = ago(3), []Gateway{{Heard: ago(3)}}, ago(0.1)
		}), Dark, discovery.ReasonAloneDark},
		{"the same, a stale witness", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Witness = ago(3), []Gateway{{Heard: ago(3)}}, ago(2.1)
		}), Undecided, discovery.ReasonIsolated},
		{"the same, AWS too early", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Cloud = ago(9), []Gateway{{Heard: ago(9)}}, ago(1)
		}), Undecided, discovery.ReasonIsolated},
		{"the same, AWS", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Cloud = ago(11), []Gateway{{Heard: ago(11)}}, ago(1)
		}), Dark, discovery.ReasonAloneDark},
		{"the same, AWS read long ago", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Cloud = ago(30), []Gateway{{Heard: ago(30)}}, ago(11)
		}), Undecided, discovery.ReasonIsolated},
		{"three gateways: one dark, one silent with the site", with(func(e *Evidence) {
			e.LastProof, e.Gateways, e.Witness = ago(3), []Gateway{told(discovery.ViewDark), {Heard: ago(3)}}, ago(0.1)
		}), Dark, discovery.ReasonAllDark},
		{"cold start, all silent", with(func(e *Evidence) {
			e.Started, e.LastProof, e.Gateways = ago(40), time.Time{}, []Gateway{{}}
		}), Undecided, discovery.ReasonIsolated},
		{"the other never heard, the site seen for long", with(func(e *Evidence) {
			e.Started, e.LastProof, e.Gateways = ago(40), ago(3), []Gateway{{}}
		}), Dark, discovery.ReasonAloneDark},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, why := Of(now, c.in, patience); got != c.want || why != c.why {
				t.Errorf("got %s (%s), want %s (%s)", got, why, c.want, c.why)
			}
		})
	}
}

func TestPaceFor(t *testing.T) {
	ms := time.Millisecond
	for k, want := range map[int]Pace{
		0: {100 * ms, 400 * ms, 1000 * ms}, 1: {50 * ms, 500 * ms, 1200 * ms}, 2: {100 * ms, 400 * ms, 1000 * ms},
		4: {100 * ms, 400 * ms, 1000 * ms}, 5: {200 * ms, 400 * ms, 1000 * ms}, 16: {200 * ms, 400 * ms, 1000 * ms},
	} {
		if got := PaceFor(k); got != want {
			t.Errorf("PaceFor(%d) = %+v, want %+v", k, got, want)
		}
	}
}
