package enroll

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"drawbridge/discovery"
)

// asking is a good question of each kind, by somebody who may ask it.
func asking(t *testing.T, l, b *lab) map[string]wire {
	t.Helper()
	all := map[string]wire{}
	n := joined(t, l, "gpu-1")
	gw, err := readKeys(b.dir, discovery.RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	gwChain, err := b.dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range allKinds {
		w := newWire(t, l)
		w.q.Kind, w.q.Name = kind, "new-"+w.tok.ID
		if kind != kindJoin {
			w.q.Token = ""
		}
		switch kind {
		case kindJoinAWS:
			w.proof = []byte("{}")
		case kindRenew, kindLeave, kindHello:
			w.k, w.q.Chain, w.q.Name = n.keys, n.chain, ""
		case kindCertify:
			w.k, w.q.Chain, w.q.Name = gw, gwChain, ""
			w.q.Issuer = gw.issuer.Public().(ed25519.PublicKey)
		}
		if w.q.Identity, w.q.WireGuard, _, err = w.k.public(); err != nil {
			t.Fatal(err)
		}
		all[kind] = w
	}
	return all
}

func TestHostileQuestionsOfEachKind(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	all := asking(t, l, b)
	ask := func(frame []byte) Code {
		ans, _ := l.srv.answer(t.Context(), frame, here, nowhere)
		return ans.Code
	}
	edit := func(frame []byte, f func(map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	stranger, err := makeKeys(discovery.RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	for kind, w := range all {
		good := w.frame(t, here)
		other := w
		other.k.identity = stranger.identity // signs for another's key
		skewed := w
		skewed.q.Time = time.Now().Add(time.Hour).UTC()
		for name, tt := range map[string]struct {
			frame []byte
			want  Code
		}{
			"recorded on another connection": {w.frame(t, elsewhere), CodeMalformed},
			"signed with another key":        {other.frame(t, here), CodeMalformed},
			"no proof":                       {edit(good, func(m map[string]any) { delete(m, "identity_proof") }), CodeMalformed},
			"unknown field":                  {edit(good, func(m map[string]any) { m["colour"] = "red" }), CodeMalformed},
			"bytes after it":                 {append(bytes.Clone(good), '{', '}'), CodeMalformed},
			"unknown field in the question":  {signedBody(t, w, func(q map[string]any) { q["colour"] = "red" }), CodeMalformed},
			"unknown kind":                   {signedBody(t, w, func(q map[string]any) { q["kind"] = "steal" }), CodeMalformed},
			"an older version":               {signedBody(t, w, func(q map[string]any) { q["version"] = 1 }), CodeVersion},
			"a token that does not belong":   {signedBody(t, w, func(q map[string]any) { q["token"] = flip(w.q.Token) }), CodeMalformed},
			"a clock that is off":            {skewed.frame(t, here), map[bool]Code{true: CodeOK, false: CodeClockSkew}[kind == kindHello]},
		} {
			if got := ask(tt.frame); got != tt.want {
				t.Errorf("%s, %s: %s, want %s", kind, name, got, tt.want)
			}
		}
		if w.q.Issuer != nil {
			forged := w
			forged.k.issuer = stranger.issuer
			if got := ask(forged.frame(t, here)); got != CodeMalformed {
				t.Errorf("%s, issuing key of another: %s", kind, got)
			}
		}
	}
	for kind, w := range all { // and nothing of that did any harm
		want := CodeOK
		if kind == kindJoinAWS {
			want = CodeNoAWS
		}
		if kind == kindLeave {
			continue // the others are of the same node
		}
		if got := ask(w.frame(t, here)); got != want {
			t.Errorf("%s, the good one: %s, want %s", kind, got, want)
		}
	}
	if got := ask(all[kindLeave].frame(t, here)); got != CodeOK {
		t.Errorf("leave, the good one: %s", got)
	}
}

// flip makes a token where there is none, and none where there is one.
func flip(token string) string {
	if token == "" {
		return "0011223344556677"
	}
	return ""
}

// signedBody is the question after a change, signed well.
func signedBody(t *testing.T, w wire, change func(map[string]any)) []byte {
	t.Helper()
	body, err := json.Marshal(w.q)
	if err != nil {
		t.Fatal(err)
	}
	var q map[string]any
	if err := json.Unmarshal(body, &q); err != nil {
		t.Fatal(err)
	}
	change(q)
	if body, err = json.Marshal(q); err != nil {
		t.Fatal(err)
	}
	req := request{
		Question: body, TokenProof: w.tok.Sign(transcript(proofToken, here, body)), AWSProof: w.proof,
		IdentityProof: ed25519.Sign(w.k.identity, transcript(proofIdentity, here, body)),
	}
	if w.q.Issuer != nil {
		req.IssuerProof = ed25519.Sign(w.k.issuer, transcript(proofIssuer, here, body))
	}
	frame, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestStrangersCostNoLockAndNoWrite: who has neither token nor certificate is
// turned away while somebody else holds the ledger, and nothing is written.
func TestStrangersCostNoLockAndNoWrite(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	alien := newLab(t)
	n := joined(t, alien, "gpu-1")
	all := asking(t, l, b)
	l.dir.Interrupt(func(name string, _ bool) error { t.Errorf("a stranger's question wrote %s", name); return nil })
	err := l.dir.Update(func() error {
		for kind, w := range all {
			switch kind {
			case kindJoin:
				w.tok = alien.token(t)
				w.q.Token = w.tok.ID
			case kindRenew, kindLeave, kindCertify, kindHello:
				w.k, w.q.Chain = keys{identity: n.keys.identity, wireGuard: n.wireGuard, issuer: w.k.issuer}, n.chain
				w.q.Identity = n.keys.identity.Public().(ed25519.PublicKey)
			}
			done := make(chan answer, 1)
			go func() {
				ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere)
				done <- ans
			}()
			select {
			case ans := <-done:
				if ans.Code == CodeOK && ans.Standing != StandingUnknown {
					t.Errorf("%s: let in", kind)
				}
			case <-time.After(8 * time.Second): // before the lock gives up
				t.Errorf("%s waits for the ledger", kind)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFrameBounds: a stranger's frame is 64 KiB, an answer 256.
func TestFrameBounds(t *testing.T) {
	frame := func(n int) []byte {
		return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	for n, want := range map[int]bool{0: false, 1: true, maxFrame: true, maxFrame + 1: false} {
		b, err := readFrame(bytes.NewReader(frame(n)), maxFrame)
		if (err == nil) != want || want && len(b) != n {
			t.Errorf("%d bytes: %d, %v", n, len(b), err)
		}
	}
	if b, err := readFrame(bytes.NewReader(frame(100)[:50]), maxFrame); err == nil {
		t.Errorf("cut short: %d", len(b))
	}
	var sink bytes.Buffer
	if err := writeFrame(&sink, make([]byte, maxFrame), maxFrame); err == nil || sink.Len() != 0 {
		t.Errorf("too big, and written: %v", err)
	}
	// The largest answer that a gateway makes fits.
	big := answer{Version: protoVersion, Code: CodeOK, Time: time.Now(), Chain: make([][]byte, maxChain)}
	for i := range big.Chain {
		big.Chain[i] = make([]byte, maxCert)
	}
	for range maxSeeds / 400 {
		big.Seeds = append(big.Seeds, make([]byte, 400))
	}
	for range maxNotices / 300 {
		big.Notices = append(big.Notices, make([]byte, 300))
	}
	if err := writeFrame(&sink, big, maxAnswer); err != nil {
		t.Error(err)
	}
}
