package agent_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
)

// The attacker has the issuing key of a second gateway, which may put nodes
// out; they sign what only a root may say. Nobody may believe it, wherever it
// is told.
func TestAttackGatewayPlaysRoot(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 1, nil)
	a, b := w.gateways[0], w.gateways[1]
	db, da := open(t, b.dir), open(t, a.dir)
	issuer := must(pki.NewSigner(must(db.Issuer())(t), must(db.IssuerKey())(t)))(t)
	mesh := must(pki.MeshOf(must(da.Roots())(t)[0]))(t)
	root, key := must2(pki.NewRoot(mesh, time.Now()))(t)
	own := must(pki.NewSigner(root, key))(t)
	now := time.Now().UTC().Truncate(time.Second)
	pin := must(pki.Pin(must(da.Issuer())(t)))(t)
	kinds := map[string]pki.Notice{
		"roots":          {Kind: pki.NoticeRoots, Reason: "rotation", At: now, Epoch: 9, Roots: [][]byte{root}},
		"issuer-revoked": {Kind: pki.NoticeIssuerRevoked, Name: "gw-a", Issuer: pin, Reason: "stolen", At: now},
	}
	forged := map[string][]byte{}
	for name, n := range kinds {
		if _, err := pki.SignNotice(issuer, mesh.Name, n); err == nil {
			t.Errorf("%s: a gateway's key signs it", name)
		}
		if n.Kind == pki.NoticeIssuerRevoked || n.Kind == pki.NoticeRoots {
			forged[name+" by a root of its own"] = must(pki.SignNotice(own, mesh.Name, n))(t)
		}
	}
	// What SignNotice refuses is made by hand: a notice that the gateway may
	// sign, with the kind of another, signed over again.
	for name, n := range kinds {
		forged[name+" by the gateway"] = resigned(must(pki.SignNotice(own, mesh.Name, n))(t), root, must(db.Issuer())(t), must(db.IssuerKey())(t), mesh.Name)
	}
	before := [][][]byte{a.Roll().Notices(), b.Roll().Notices(), w.servers[0].Roll().Notices()}
	r := newRogue(t, b.dir, w.servers[0].Self().Addr, a) // only for its mesh; see below
	r.device.Close()
	for name, n := range forged {
		for i, c := range w.all() {
			if _, err := c.tryCommand(t, "notice", api.Command{Notice: n}); err == nil {
				t.Errorf("%s takes %s from its own socket", c.name, name)
			}
			if _, news, err := c.Roll().Add(n, time.Now()); err == nil || news {
				t.Errorf("%s believes %s: news %v", c.name, name, news)
			}
			if len(c.Roll().Notices()) != len(before[i]) || c.trust(t).Epoch != 0 || len(c.trust(t).Roots) != 1 {
				t.Errorf("%s was moved by %s", c.name, name)
			}
		}
	}
	// And over the tunnel, with the gateway's own keys.
	b.stop()
	r = newRogue(t, b.dir, b.Self().Addr, a)
	r.mustConnect(t)
	talk := r.socket(t, portGossip)
	noNews := a.status(t).Counters["gossip.no-news"]
	eventually(t, 20*time.Second, "the notices came over the tunnel and were refused", func() bool {
		for _, n := range forged {
			if len(n) < 1200 {
				send(t, talk, a.Self().Addr, portGossip, rawNoticeFrame(n))
			}
		}
		return a.status(t).Counters["gossip.no-news"] > noNews
	})
	if tr := a.trust(t); len(a.Roll().Notices()) != len(before[0]) || tr.Epoch != 0 || len(tr.Roots) != 1 {
		t.Errorf("gw-a was moved: %+v", tr)
	}
	a.until(t, "the mesh stands", memberIs("gpu-1", "alive"))
}

// The attacker blew up the gateway that holds the root key, for good. Its nodes
// must stay up and be renewed by the other one, which also lets new ones in.
func TestAttackGatewayLost(t *testing.T) {
	t.Parallel()
	w := newTown(t, 2, 2, func(s *config.Settings) { s.Enrolment.NodeLife = time.Minute })
	a, b := w.gateways[0], w.gateways[1]
	certified := func(by string) bool {
		tr, err := api.NewClient(b.socket()).Trust(t.Context())
		n := 0
		for _, c := range tr.Certificates {
			if len(c.Name) > 3 && c.Name[:3] == "gpu" && c.Issuer == by && c.NotAfter.After(time.Now()) {
				n++
			}
		}
		return err == nil && n == 2
	}
	eventually(t, time.Minute, "gw-a certified both", func() bool { return certified("gw-a") })
	a.stop()
	end := time.Now().Add(time.Minute) // of the longest of its certificates
	renewed := func() bool {
		tr, err := api.NewClient(b.socket()).Trust(t.Context())
		n := 0
		for _, c := range tr.Certificates {
			if (c.Name == "gpu-1" || c.Name == "gpu-2") && c.Renewer == "gw-b" {
				n++
			}
		}
		return err == nil && n == 2
	}
	var dark atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { // nobody's proof is lost meanwhile
		defer close(watched)
		for ctx.Err() == nil {
			if st, err := api.NewClient(b.socket()).Status(ctx); err == nil && verdictOf("idc", "dark")(st) {
				dark.Store(true)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	eventually(t, 90*time.Second, "gw-b renewed both", renewed)
	newcomer := w.citizen(t, "gpu-3")
	newcomer.mustJoin(t, b.token(t, enroll.TokenOptions{}))
	newcomer.start(t)
	for time.Now().Before(end) { // until nothing of gw-a's is valid by itself
		time.Sleep(100 * time.Millisecond)
	}
	for _, name := range []string{"gpu-1", "gpu-2", "gpu-3"} {
		b.until(t, name+" is alive", memberIs(name, "alive"))
	}
	newcomer.until(t, "the newcomer sees the others", and(memberIs("gpu-1", "alive"), memberIs("gpu-2", "alive")))
	cancel()
	<-watched
	if dark.Load() {
		t.Error("the site was dark meanwhile")
	}
	for _, c := range b.trust(t).Certificates {
		if c.Name != "gw-a" && !c.NotAfter.After(time.Now()) {
			t.Errorf("the certificate of %s is over: %+v", c.Name, c)
		}
	}
}

// Nobody attacks: the root is replaced under running agents. No proof may be
// lost, who was off must be named, and a token of before must be good until
// the old root goes.
func TestAttackRootRotation(t *testing.T) {
	t.Parallel()
	// Patient, so that what is lost is lost by the rotation and not by this
	// machine: a tunnel that is cut stays so for longer.
	patient := func(s *config.Settings) { s.Timing.EchoAfter, s.Timing.DarkAfter = 2*time.Second, 6*time.Second }
	w := newTown(t, 2, 2, patient)
	a, late := w.gateways[0], w.servers[1]
	early := a.token(t, enroll.TokenOptions{Uses: 3})
	late.stop()
	awake := []*citizen{a, w.gateways[1], w.servers[0]}
	begun := time.Now()
	step := func(do func(*statedir.Dir, [][]byte, uint64, time.Time) ([]byte, error)) uint64 {
		t.Helper()
		tr := a.trust(t)
		d := open(t, a.dir)
		var notice []byte
		if err := d.Update(func() (err error) {
			notice, err = do(d, tr.CAs, tr.Epoch+1, time.Now())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		a.command(t, "notice", api.Command{Notice: notice})
		return tr.Epoch + 1
	}
	settled := func(epoch uint64, roots int) {
		t.Helper()
		for _, c := range awake {
			eventually(t, time.Minute, c.name+" follows", func() bool {
				tr, err := api.NewClient(c.socket()).Trust(t.Context())
				return err == nil && tr.Epoch == epoch && len(tr.Roots) == roots
			})
		}
		eventually(t, time.Minute, "gw-a knows that they follow, and that gpu-2 does not", func() bool {
			var behind []string
			tr := a.trust(t)
			for _, c := range tr.Certificates {
				if c.Epoch < tr.Epoch {
					behind = append(behind, c.Name)
				}
			}
			return slices.Equal(behind, []string{"gpu-2"})
		})
	}
	settled2 := step(rootca.Rotate)
	settled(settled2, 2)
	newHost(t, "gpu-3").mustJoin(t, early)
	// Behind from here: 3 joined and never runs.
	a.command(t, "revoke", api.Command{Node: "gpu-3"})
	settled(step(rootca.Switch), 2)
	newHost(t, "gpu-4").mustJoin(t, early)
	a.command(t, "revoke", api.Command{Node: "gpu-4"})
	eventually(t, time.Minute, "all that run rest on the new root", func() bool {
		tr := a.trust(t)
		for _, c := range tr.Certificates {
			if c.Name != "gpu-2" && c.RootPin != tr.Roots[0].Pin {
				return false
			}
		}
		return true
	})
	d := open(t, a.dir)
	if err := d.Update(func() error {
		again, err := rootca.Reissue(d, a.Roll().Notices(), time.Now())
		for _, n := range again {
			a.command(t, "notice", api.Command{Notice: n})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	settled(step(rootca.Retire), 1)
	_, err := newHost(t, "gpu-5").join(t, early)
	wantCode(t, err, enroll.CodeFakeGateway)
	newHost(t, "gpu-6").mustJoin(t, a.token(t, enroll.TokenOptions{}))
	for _, g := range w.gateways {
		for _, e := range must(api.NewClient(g.socket()).Events(t.Context(), 0))(t).Events {
			if e.Subject == "idc" && e.To == "dark" && e.At.After(begun) {
				t.Errorf("%s lost the site meanwhile: %+v", g.name, e)
			}
		}
	}
	for _, c := range awake {
		st := c.status(t)
		for _, o := range awake {
			if !memberIs(o.name, "alive")(st) {
				t.Errorf("%s does not see %s", c.name, o.name)
			}
		}
		for _, name := range []string{"gpu-3", "gpu-4"} {
			if !slices.ContainsFunc(c.Roll().List(), func(n pki.Notice) bool { return n.Kind == pki.NoticeRevoked && n.Name == name }) {
				t.Errorf("%s forgot with the old root that %s is revoked", c.name, name)
			}
		}
	}
	// Who slept through all of it wakes.
	late.start(t)
	late.until(t, "sees the gateway", memberIs("gw-a", "alive"))
	a.until(t, "the sleeper is back", memberIs("gpu-2", "alive"))
	eventually(t, time.Minute, "the sleeper follows", func() bool {
		tr, err := api.NewClient(late.socket()).Trust(t.Context())
		return err == nil && tr.Epoch == a.trust(t).Epoch && len(tr.Roots) == 1
	})
}
