package enroll

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// fixedQuestion is the same in every process, as a fuzzer's workers need it.
func fixedQuestion(kind string) (question, keys) {
	k := keys{identity: ed25519.NewKeyFromSeed(here), issuer: ed25519.NewKeyFromSeed(elsewhere)}
	q := question{
		Version: protoVersion, Kind: kind, Time: time.Unix(1e9, 0).UTC(),
		Identity: k.identity.Public().(ed25519.PublicKey), WireGuard: elsewhere,
	}
	switch kind {
	case kindJoin:
		q.Token, q.Name = "0011223344556677", "gpu-1"
	case kindJoinAWS:
		q.Name = "gpu-1"
	case kindCertify:
		q.Issuer = k.issuer.Public().(ed25519.PublicKey)
		fallthrough
	default:
		q.Chain = [][]byte{{0x30, 0}, {0x30, 0}}
	}
	return q, k
}

var allKinds = []string{kindJoin, kindJoinAWS, kindRenew, kindCertify, kindLeave, kindHello}

// signed is the request for a question's bytes by the fixed keys.
func signed(f testing.TB, body, proof []byte) []byte {
	f.Helper()
	_, k := fixedQuestion(kindJoin)
	frame, err := json.Marshal(request{
		Question: body, AWSProof: proof,
		IdentityProof: ed25519.Sign(k.identity, transcript(proofIdentity, here, body)),
		IssuerProof:   ed25519.Sign(k.issuer, transcript(proofIssuer, here, body)),
	})
	if err != nil {
		f.Fatal(err)
	}
	return frame
}

// eachKind gives good questions to add to a corpus.
func eachKind(f *testing.F, add func(body, proof []byte)) {
	f.Helper()
	for _, kind := range allKinds {
		q, _ := fixedQuestion(kind)
		body, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		var proof []byte
		if kind == kindJoinAWS {
			proof = []byte(`{"Region":"eu-west-1"}`)
		}
		if _, _, bad := decodeQuestion(signed(f, body, proof), here); bad != nil {
			f.Fatalf("%s: %v", kind, bad)
		}
		add(body, proof)
	}
}

func FuzzQuestion(f *testing.F) {
	eachKind(f, func(body, proof []byte) { f.Add(signed(f, body, proof)) })
	f.Add([]byte(`{"question":"e30=","identity_proof":""}`))
	f.Add([]byte(`{"question":"eyJ2ZXJzaW9uIjoxfQ=="}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, q, bad := decodeQuestion(frame, here)
		if bad == nil && !proven(q.Identity, proofIdentity, here, r.Question, r.IdentityProof) {
			t.Fatal("accepted without proof")
		}
	})
}

// FuzzQuestionBody signs what the fuzzer wants asked: what the rightful holder
// of a token or a certificate may say.
func FuzzQuestionBody(f *testing.F) {
	eachKind(f, func(body, proof []byte) { f.Add(body, proof) })
	f.Fuzz(func(t *testing.T, body, proof []byte) {
		r, q, bad := decodeQuestion(signed(t, body, proof), here)
		if bad != nil {
			return
		}
		joins := q.Kind == kindJoin || q.Kind == kindJoinAWS
		switch {
		case joins && (pki.CheckLabel("name", q.Name) != nil || len(q.WireGuard) != 32 || len(q.Chain) != 0),
			(q.Token != "") != (q.Kind == kindJoin),
			(r.AWSProof != nil) != (q.Kind == kindJoinAWS), len(r.AWSProof) > maxProof,
			q.Kind == kindCertify && q.Issuer == nil,
			q.Issuer != nil && !proven(q.Issuer, proofIssuer, here, r.Question, r.IssuerProof),
			len(q.Endpoints) > maxEndpoints, len(q.Chain) > maxChain:
			t.Fatalf("passed: %+v", q)
		}
	})
}

// FuzzServer asks a server with the fuzzer's questions: nobody is let in.
func FuzzServer(f *testing.F) {
	l := newLab(f)
	eachKind(f, func(body, proof []byte) { f.Add(body, proof) })
	f.Fuzz(func(t *testing.T, body, proof []byte) {
		l.skew.Store(int64(time.Until(time.Unix(1e9, 0)))) // when the questions are asked
		ans, c := l.srv.answer(t.Context(), signed(t, body, proof), here, nowhere)
		if ans.Code == CodeOK && (c.Kind != kindHello || ans.Standing != StandingUnknown) || ans.Chain != nil || ans.Issuer != nil {
			t.Fatalf("%+v to %+v", ans, c)
		}
	})
}

func FuzzIntroduction(f *testing.F) {
	l := newLab(f)
	chain, err := l.dir.Chain()
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(introduction{Leaf: chain[0]})
	if err != nil {
		f.Fatal(err)
	}
	q, k := fixedQuestion(kindJoin)
	asked := &call{question: q, id: k.id()}
	f.Add(good)
	f.Add([]byte(`{"leaf":""}`))
	f.Add([]byte(`{"leaf":"MAA=","colour":"red"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if chain, bad := l.srv.checkIntroduction(frame, asked, answer{Issuer: chain[1], Site: "aws"}); bad == nil {
			t.Fatalf("introduced %d certificates", len(chain))
		}
	})
}

// FuzzAnswer has a gateway say what the fuzzer likes to a host that joins.
func FuzzAnswer(f *testing.F) {
	l := newLab(f)
	roots, err := l.dir.Roots()
	if err != nil {
		f.Fatal(err)
	}
	mesh, err := pki.MeshOf(roots[0])
	if err != nil {
		f.Fatal(err)
	}
	own, err := l.dir.Chain()
	if err != nil {
		f.Fatal(err)
	}
	k, err := makeKeys(discovery.RoleGateway)
	if err != nil {
		f.Fatal(err)
	}
	for _, ans := range []answer{
		{Version: protoVersion, Code: CodeOK, Chain: own},
		{Version: protoVersion, Code: CodeOK, Issuer: own[1], Renewer: own[1], Site: "aws", Notices: [][]byte{{1}}},
		{Version: protoVersion, Code: CodePending, Text: "4f2a-91c0-77de-1b02 waits"},
		{Version: protoVersion, Code: CodeOK, Standing: StandingRevoked},
		{Version: 1, Code: CodeVersion, Text: "version 2"},
	} {
		b, err := json.Marshal(ans)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if b, err := readFrame(bytes.NewReader(frame), maxAnswer); err == nil && len(b) > maxAnswer {
			t.Fatal("beyond the bound")
		}
		ans, err := decodeAnswer(frame)
		if err != nil {
			return
		}
		_ = printable(ans.Text)
		for _, role := range []discovery.Role{discovery.RoleServer, discovery.RoleGateway} {
			j := &joining{JoinOptions: JoinOptions{Name: "gw-a", Site: "aws", Role: role, now: time.Now}, keys: k, root: roots[0]}
			if m, bad := j.accept(&gateway{}, ans, mesh); bad == nil {
				t.Fatalf("joined as %+v", m.id)
			}
		}
	})
}
