package enroll

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/history"
)

func TestRefusalsAreThinnedOut(t *testing.T) {
	var kept []history.Event
	a := auditor{keep: func(e history.Event) { kept = append(kept, e) }}
	now := time.Unix(1e9, 0)
	from := func(i int) *call {
		ip := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		return &call{from: netip.AddrPortFrom(ip, 1), now: now}
	}
	for range 1000 {
		a.refused(from(1), refuse(CodeUnknownToken, "x"))
	}
	a.refused(from(1), refuse(CodeUsedUp, "x"))
	a.refused(from(2), refuse(CodeUnknownToken, "x"))
	if len(kept) != 3 {
		t.Errorf("%d events, want 3: one per source and code", len(kept))
	}
	for i := range 10000 {
		a.refused(from(i+10), refuse(CodeUnknownToken, "x"))
	}
	if len(kept) != maxRefusals {
		t.Errorf("%d events in a minute, want %d", len(kept), maxRefusals)
	}
	if len(a.told) > maxRefusals {
		t.Errorf("%d remembered", len(a.told))
	}
	now = now.Add(refusalWindow)
	a.settle(now)
	last := kept[len(kept)-1]
	if len(kept) != maxRefusals+1 || last.Kind != eventRefusals || last.Detail["count"] != strconv.Itoa(999+10000-(maxRefusals-3)) {
		t.Errorf("%d events, last %+v", len(kept), last)
	}
	a.settle(now.Add(time.Hour))
	a.refused(from(1), refuse(CodeUnknownToken, "x"))
	if len(kept) != maxRefusals+2 || kept[len(kept)-1].Kind != eventRefused {
		t.Errorf("%d events, last %+v", len(kept), kept[len(kept)-1])
	}
	// A clock that is set back does not silence the journal.
	now = now.Add(-24 * time.Hour)
	a.refused(from(1), refuse(CodeUnknownToken, "x"))
	if len(kept) != maxRefusals+3 {
		t.Errorf("%d events", len(kept))
	}
}

// TestHistory is the whole life of a token and a node, as the journal tells it.
func TestHistory(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, approval, func(o *TokenOptions) { o.Uses = 2 })
	o := patient(options(t, tok, "gpu-1"), func(int) {
		list, _ := ListPending(l.state)
		if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil {
			t.Error(err)
		}
	})
	res := mustJoin(t, o)
	n := joined(t, l, "gpu-2")
	wantAnswer(t, "renewal", n.renews(t, l), CodeOK)
	wantAnswer(t, "leave", n.asks(t, l, kindLeave), CodeOK)
	bad := options(t, tok, "gpu-3")
	bad.Site = ""
	if err := RevokeToken(l.state, tok.ID); err != nil {
		t.Fatal(err)
	}
	_, err := join(t, bad)
	wantCode(t, err, CodeRevoked)

	events, err := history.Read(l.state, history.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", e.Kind, e.Subject, e.To, e.Reason, e.Actor))
	}
	text := strings.Join(lines, "\n")
	who, gone := string(res.ID)+" gpu-1", string(n.id)+" gpu-2"
	for _, want := range []string{
		"mesh-made lab",
		"token-created " + tok.ID,
		"host-waiting " + who,
		"host-approved " + who + "   user alice",
		"token-used " + tok.ID + " " + who + "  node " + res.ID.Short() + " gpu-1 from 127.0.0.1",
		"certificate-issued " + who,
		"certificate-renewed " + gone + "  renewal node " + n.id.Short() + " gpu-2 from 198.51.100.7",
		"node-left " + gone + "  left",
		"token-revoked " + tok.ID,
		"enrolment-refused ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "dbt1_") {
		t.Error("a token is in the journal")
	}
	if err := history.Check(l.state); err != nil {
		t.Error(err)
	}
	own, err := history.Read(o.StateDir, history.Filter{})
	if err != nil || len(own) != 1 || own[0].Kind != eventJoined || own[0].Subject != who {
		t.Errorf("the new host's: %+v, %v", own, err)
	}
}

// TestStrangersInTheJournal: what a stranger claims is not told as who he is.
func TestStrangersInTheJournal(t *testing.T) {
	l := newLab(t)
	w := newWire(t, l)
	f := w.frame(t, elsewhere) // its proofs are not good here
	for range 3 {
		l.srv.answer(t.Context(), f, here, nowhere)
	}
	events, err := history.Read(l.state, history.Filter{Kinds: []string{eventRefused}})
	if err != nil || len(events) != 1 || events[0].Actor != "stranger from 198.51.100.7" || events[0].Subject != "" || events[0].Reason != string(CodeMalformed) {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestNoTokenWithoutHistory(t *testing.T) {
	l := newLab(t)
	blockHistory(t, l.state)
	if text, err := CreateToken(l.state, TokenOptions{Site: "idc", Addrs: []string{"a:1"}}); err == nil || text != "" {
		t.Errorf("made %q", text)
	}
	if list, err := l.dir.Tokens(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
