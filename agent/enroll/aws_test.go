package enroll

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// sts is a world in which a proof is a caller and the challenge that it signed.
type sts struct {
	asked atomic.Int64
	err   atomic.Pointer[error]
}

type stsProof struct {
	Caller    AWSCaller
	Challenge string
}

func (s *sts) confirm(_ context.Context, proof, challenge []byte) (AWSCaller, error) {
	s.asked.Add(1)
	if err := s.err.Load(); err != nil {
		return AWSCaller{}, *err
	}
	var p stsProof
	if err := json.Unmarshal(proof, &p); err != nil {
		return AWSCaller{}, err
	}
	if p.Challenge != hex.EncodeToString(challenge) {
		return AWSCaller{}, errors.New("the signed challenge is another")
	}
	return p.Caller, nil
}

func (s *sts) fail(err error) { s.err.Store(&err) }

// on is an instance with the role gpu.
func on(instance string) AWSCaller {
	return AWSCaller{
		Account: "123456789012", Partition: "aws", Role: "gpu", Session: instance,
		ARN: "arn:aws:sts::123456789012:assumed-role/gpu/" + instance,
	}
}

func proves(c AWSCaller) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, challenge []byte) ([]byte, error) {
		return json.Marshal(stsProof{c, hex.EncodeToString(challenge)})
	}
}

var gpuRule = AWSRule{Name: "gpus", Account: "123456789012", Role: "gpu*", Site: "aws", Names: []string{"gpu-*"}, Ephemeral: true}

func awsLab(t *testing.T, rules ...AWSRule) (*lab, *sts) {
	t.Helper()
	s := &sts{}
	l := newLab(t)
	m := &lab{state: l.state, res: l.res}
	m.open(t, func(o *Options) { o.AWS, o.AWSRules = s.confirm, rules })
	return m, s
}

func awsOptions(t *testing.T, l *lab, name string, c AWSCaller) JoinOptions {
	t.Helper()
	o := options(t, nil, name)
	o.Gateways, o.Pin, o.Prove = []string{l.addr}, l.res.Pin, proves(c)
	return o
}

func TestJoinByAWSIdentity(t *testing.T) {
	l, s := awsLab(t, gpuRule)
	o := awsOptions(t, l, "gpu-1", on("i-0123456789abcdef0"))
	res := mustJoin(t, o)
	if res.Site != "aws" || res.Role != discovery.RoleServer || res.Mesh != "lab" || res.Addr != netip.MustParseAddr("10.86.0.2") {
		t.Errorf("got %+v", res)
	}
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, dir)
	list, err := ListTransient(l.dir)
	if err != nil || len(list) != 1 || list[0].Instance != "i-0123456789abcdef0" || list[0].ID != res.ID {
		t.Errorf("%+v, %v", list, err)
	}
	events, err := history.Read(l.state, history.Filter{Kinds: []string{eventIssued}})
	if err != nil || len(events) != 1 || events[0].Detail["rule"] != "gpus" || !strings.Contains(events[0].Detail["caller"], "i-0123") ||
		!strings.HasPrefix(events[0].Actor, "node "+res.ID.Short()+" gpu-1 from 127.0.0.1") {
		t.Errorf("%+v, %v", events, err)
	}
	if s.asked.Load() != 1 {
		t.Errorf("AWS was asked %d times", s.asked.Load())
	}
}

func TestAWSRules(t *testing.T) {
	rule := func(change func(*AWSRule)) AWSRule { r := gpuRule; change(&r); return r }
	caller := func(change func(*AWSCaller)) AWSCaller { c := on("i-0123456789abcdef0"); change(&c); return c }
	good := on("i-0123456789abcdef0")
	for _, tt := range []struct {
		name   string
		rules  []AWSRule
		caller AWSCaller
		join   func(*JoinOptions)
		want   Code
	}{
		{"no rules", nil, good, nil, CodeNoAWS},
		{"good", []AWSRule{gpuRule}, good, nil, CodeOK},
		{"another account", []AWSRule{gpuRule}, caller(func(c *AWSCaller) { c.Account = "210987654321" }), nil, CodeBadAWS},
		{"the account in another partition", []AWSRule{gpuRule}, caller(func(c *AWSCaller) { c.Partition = "aws-cn" }), nil, CodeBadAWS},
		{"that partition in the rule", []AWSRule{rule(func(r *AWSRule) { r.Partition = "aws-cn" })}, caller(func(c *AWSCaller) { c.Partition = "aws-cn" }), nil, CodeOK},
		{"another role", []AWSRule{gpuRule}, caller(func(c *AWSCaller) { c.Role = "web" }), nil, CodeBadAWS},
		{"a user", []AWSRule{rule(func(r *AWSRule) { r.Role = "*" })}, caller(func(c *AWSCaller) { c.Role = "" }), nil, CodeBadAWS},
		{"a rule without a role", []AWSRule{rule(func(r *AWSRule) { r.Role = "" })}, caller(func(c *AWSCaller) { c.Role = "" }), nil, CodeBadAWS},
		{"a bad glob", []AWSRule{rule(func(r *AWSRule) { r.Role = "gpu[" })}, good, nil, CodeBadAWS},
		{"another name", []AWSRule{gpuRule}, good, func(o *JoinOptions) { o.Name = "web-1" }, CodeOtherName},
		{"another site", []AWSRule{gpuRule}, good, func(o *JoinOptions) { o.Site = "idc" }, CodeOtherSite},
		{"the second rule", []AWSRule{rule(func(r *AWSRule) { r.Site = "idc" }), gpuRule}, good, func(o *JoinOptions) { o.Site = "aws" }, CodeOK},
		{"as a gateway", []AWSRule{gpuRule}, good, func(o *JoinOptions) { o.Role = discovery.RoleGateway }, CodeOtherRole},
		{"a rule for gateways", []AWSRule{rule(func(r *AWSRule) { r.NodeRole = discovery.RoleGateway })}, good, nil, CodeOtherRole},
		{"a gateway by such a rule", []AWSRule{rule(func(r *AWSRule) { r.NodeRole = discovery.RoleGateway })}, good, func(o *JoinOptions) { o.Role = discovery.RoleGateway }, CodeOK},
		{"wrong pin", []AWSRule{gpuRule}, good, func(o *JoinOptions) { o.Pin[0] ^= 1 }, CodeFakeGateway},
		{"credentials cannot be had", []AWSRule{gpuRule}, good, func(o *JoinOptions) {
			o.Prove = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no role") }
		}, CodeBadAWS},
		{"a proof that is too big", []AWSRule{gpuRule}, good, func(o *JoinOptions) {
			o.Prove = func(context.Context, []byte) ([]byte, error) { return make([]byte, maxProof+1), nil }
		}, CodeBadAWS},
		{"a challenge of its own", []AWSRule{gpuRule}, good, func(o *JoinOptions) {
			o.Prove = func(context.Context, []byte) ([]byte, error) { return proves(good)(t.Context(), make([]byte, 32)) }
		}, CodeBadAWS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, _ := awsLab(t, tt.rules...)
			o := awsOptions(t, l, "gpu-1", tt.caller)
			if tt.join != nil {
				tt.join(&o)
			}
			res, err := join(t, o)
			if tt.want != CodeOK {
				wantCode(t, err, tt.want)
				wantNothing(t, o.StateDir)
				return
			}
			if err != nil || res.Site != "aws" {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}

// TestAWSProofIsForOneConnection has proofs that were heard or made elsewhere.
func TestAWSProofIsForOneConnection(t *testing.T) {
	l, s := awsLab(t, gpuRule)
	w := newWire(t, l)
	w.q.Kind, w.q.Token = kindJoinAWS, ""
	body, err := json.Marshal(w.q)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(exported []byte) answer {
		ans, _ := l.srv.answer(t.Context(), w.frame(t, exported), exported, nowhere)
		return ans
	}
	w.proof, _ = proves(on("i-0123456789abcdef0"))(t.Context(), challenge(elsewhere, body))
	wantAnswer(t, "recorded on another connection", ask(here), CodeBadAWS)
	// Another host on the same connection's words, with its own keys.
	w.proof, _ = proves(on("i-0123456789abcdef0"))(t.Context(), challenge(here, body))
	thief := newWire(t, l)
	stolen := w
	stolen.k, stolen.q.Identity = thief.k, thief.q.Identity
	ans, _ := l.srv.answer(t.Context(), stolen.frame(t, here), here, nowhere)
	wantAnswer(t, "for other keys", ans, CodeBadAWS)
	other := w
	other.q.Name = "gpu-2"
	ans, _ = l.srv.answer(t.Context(), other.frame(t, here), here, nowhere)
	wantAnswer(t, "for another name", ans, CodeBadAWS)
	asked := s.asked.Load()
	for name, change := range map[string]func(*wire){
		"empty":       func(w *wire) { w.proof = nil },
		"too big":     func(w *wire) { w.proof = make([]byte, maxProof+1) },
		"with a join": func(w *wire) { w.q.Kind, w.q.Token = kindJoin, w.tok.ID },
	} {
		bad := w
		change(&bad)
		ans, _ := l.srv.answer(t.Context(), bad.frame(t, here), here, nowhere)
		wantAnswer(t, name, ans, CodeMalformed)
	}
	if s.asked.Load() != asked {
		t.Error("AWS was asked about a malformed question")
	}
	wantAnswer(t, "the good one", ask(here), CodeOK)
}

func TestOneNodePerInstance(t *testing.T) {
	l, _ := awsLab(t, gpuRule)
	instance := on("i-0123456789abcdef0")
	first := mustJoin(t, awsOptions(t, l, "gpu-1", instance))
	l.living[first.ID] = true
	_, err := join(t, awsOptions(t, l, "gpu-2", instance))
	wantCode(t, err, CodeInstanceTaken)
	_, err = join(t, awsOptions(t, l, "gpu-1", instance))
	wantCode(t, err, CodeNameTaken)
	l.living[first.ID] = false
	_, err = join(t, awsOptions(t, l, "gpu-1", on("i-0fedcba9876543210")))
	wantCode(t, err, CodeNameTaken) // another instance
	second := mustJoin(t, awsOptions(t, l, "gpu-1", instance))
	if replaced, _ := l.told(); len(replaced) != 1 || replaced[0].ID != first.ID {
		t.Errorf("told of %v", replaced)
	}
	// Under another name too: there is one node per instance.
	third := mustJoin(t, awsOptions(t, l, "gpu-2", instance))
	if replaced, _ := l.told(); len(replaced) != 2 || replaced[1].ID != second.ID {
		t.Errorf("told of %v", replaced)
	}
	list, err := ListTransient(l.dir)
	if err != nil || len(list) != 1 || list[0].ID != third.ID {
		t.Errorf("%+v, %v", list, err)
	}
	// Sessions that are no instances have nothing to do with each other.
	mustJoin(t, awsOptions(t, l, "gpu-3", on("alice")))
	mustJoin(t, awsOptions(t, l, "gpu-4", on("alice")))
}

func TestAWSAway(t *testing.T) {
	l, s := awsLab(t, gpuRule)
	for _, err := range []error{ErrAWSAway, fmt.Errorf("ask: %w", context.DeadlineExceeded)} {
		s.fail(err)
		o := awsOptions(t, l, "gpu-1", on("i-0123456789abcdef0"))
		_, err := join(t, o)
		wantCode(t, err, CodeAWSAway)
	}
	if s.asked.Load() != 2*rounds {
		t.Errorf("asked %d times, want once in each round", s.asked.Load())
	}
}

// TestAWSCallsAreBounded: while as many questions as are allowed wait for AWS,
// tokens and members are served, and the next waits no longer than its time.
func TestAWSCallsAreBounded(t *testing.T) {
	l := newLab(t)
	var at atomic.Int64
	most := make(chan struct{}, 100)
	release := make(chan struct{})
	s := NewServer(Options{Dir: l.dir, Roll: l.roll, AWSRules: []AWSRule{gpuRule}, AWS: func(ctx context.Context, _, _ []byte) (AWSCaller, error) {
		at.Add(1)
		most <- struct{}{}
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > awsTime {
			t.Error("a question to AWS without an end")
		}
		<-release
		return AWSCaller{}, errors.New("no")
	}})
	ask := func(ctx context.Context) chan answer {
		w := newWire(t, l)
		w.q.Kind, w.q.Token, w.proof = kindJoinAWS, "", []byte("x")
		frame := w.frame(t, here)
		done := make(chan answer, 1)
		go func() {
			ans, _ := s.answer(ctx, frame, here, nowhere)
			done <- ans
		}()
		return done
	}
	var waiting []chan answer
	for range maxAWSCalls {
		waiting = append(waiting, ask(t.Context()))
	}
	for range maxAWSCalls {
		<-most
	}
	ctx, cancel := context.WithCancel(t.Context())
	next := ask(ctx)
	cancel()
	if ans := <-next; ans.Code != CodeBusy {
		t.Errorf("got %s", ans.Code)
	}
	w := newWire(t, l)
	if ans, _ := s.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeOK {
		t.Errorf("a token meanwhile: %s", ans.Code)
	}
	if at.Load() != maxAWSCalls {
		t.Errorf("%d at once", at.Load())
	}
	close(release)
	for _, done := range waiting {
		if ans := <-done; ans.Code != CodeBadAWS {
			t.Errorf("got %s", ans.Code)
		}
	}
}

func TestAWSNeedsApprovalToo(t *testing.T) {
	s := &sts{}
	l := &lab{state: newLab(t).state}
	res, err := describe(mustOpen(t, l.state))
	if err != nil {
		t.Fatal(err)
	}
	l.res = res
	l.open(t, func(o *Options) {
		o.AWS, o.AWSRules, o.RequireApproval = s.confirm, []AWSRule{gpuRule}, func() bool { return true }
	})
	instance := on("i-0123456789abcdef0")
	o := patient(awsOptions(t, l, "gpu-1", instance), func(n int) {
		list, err := ListPending(l.state)
		if err != nil || len(list) != 1 || list[0].Token != "" || list[0].Caller != instance.ARN {
			t.Errorf("%+v, %v", list, err)
		}
		if n == 2 {
			if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil {
				t.Error(err)
			}
		}
	})
	mustJoin(t, o)
	if list, err := ListPending(l.state); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func mustOpen(t *testing.T, path string) *statedir.Dir {
	t.Helper()
	d, err := statedir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestJoinOptionsOfAWS(t *testing.T) {
	l, _ := awsLab(t, gpuRule)
	for name, change := range map[string]func(*JoinOptions){
		"nothing":      func(o *JoinOptions) { o.Prove = nil },
		"no gateway":   func(o *JoinOptions) { o.Gateways = nil },
		"bad gateway":  func(o *JoinOptions) { o.Gateways = []string{"nowhere"} },
		"no pin":       func(o *JoinOptions) { o.Pin = [32]byte{} },
		"bad role":     func(o *JoinOptions) { o.Role = "king" },
		"with a token": func(o *JoinOptions) { o.Token = l.token(t) },
	} {
		o := awsOptions(t, l, "gpu-1", on("x"))
		change(&o)
		if _, err := join(t, o); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
}

func TestChallenge(t *testing.T) {
	a := challenge(here, []byte("q"))
	for name, b := range map[string][]byte{
		"another connection": challenge(elsewhere, []byte("q")),
		"another question":   challenge(here, []byte("r")),
		"another purpose":    transcript(proofIdentity, here, []byte("q")),
	} {
		if len(a) != 32 || bytes.Equal(a, b) {
			t.Errorf("%s: the same", name)
		}
	}
}
