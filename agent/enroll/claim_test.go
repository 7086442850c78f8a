package enroll

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

func TestClaim(t *testing.T) {
	now := time.Unix(1e9, 0)
	yes, no := true, false
	server, gw := discovery.RoleServer, discovery.RoleGateway
	valid, ended, longEnded := now.Add(time.Hour), now.Add(-71*time.Hour), now.Add(-73*time.Hour)
	had := func(end time.Time, alive *bool) holder {
		return holder{Identity: discovery.Identity{ID: "old", Name: "gpu-1", Role: server, NotAfter: end}, alive: alive}
	}
	gateway := func(alive *bool) holder {
		return holder{Identity: discovery.Identity{ID: "old", Name: "gpu-1", Role: gw}, alive: alive}
	}
	instance := func(h holder, id string) holder { h.instance = id; return h }
	out := had(valid, &yes)
	out.out = true
	for _, tt := range []struct {
		name    string
		who     claimant
		holders []holder
		ok      bool
		earlier int
	}{
		{"nobody has it", claimant{role: server}, nil, true, 0},
		{"a living node", claimant{role: server}, []holder{had(valid, &yes)}, false, 0},
		{"a node that is away", claimant{role: server}, []holder{had(valid, &no)}, false, 0},
		{"ended for less than 72 h", claimant{role: server}, []holder{had(ended, &no)}, false, 0},
		{"ended for more than 72 h", claimant{role: server}, []holder{had(longEnded, &no)}, true, 1},
		{"ended for more than 72 h, and alive", claimant{role: server}, []holder{had(longEnded, &yes)}, false, 0},
		{"ended for more than 72 h, life not known", claimant{role: server}, []holder{had(longEnded, nil)}, true, 1},
		{"revoked, and alive", claimant{role: server}, []holder{out}, true, 0},
		{"replaced, and away", claimant{role: server, replace: true}, []holder{had(valid, &no)}, true, 1},
		{"replaced, and alive", claimant{role: server, replace: true}, []holder{had(valid, &yes)}, false, 0},
		{"replaced, life not known", claimant{role: server, replace: true}, []holder{had(valid, nil)}, false, 0},
		{"the same instance", claimant{role: server, instance: "i-1"}, []holder{instance(had(valid, &no), "i-1")}, true, 1},
		{"another instance", claimant{role: server, instance: "i-2"}, []holder{instance(had(valid, &no), "i-1")}, false, 0},
		{"no instance on either side", claimant{role: server}, []holder{instance(had(valid, &no), "")}, false, 0},
		{"a server for a gateway", claimant{role: server, replace: true}, []holder{gateway(&no)}, false, 0},
		{"a gateway for a gateway", claimant{role: gw, replace: true}, []holder{gateway(&no)}, true, 1},
		{"a gateway's end says nothing", claimant{role: gw}, []holder{gateway(&no)}, false, 0},
		{"two holders, one alive", claimant{role: server, replace: true}, []holder{had(valid, &no), had(valid, &yes)}, false, 0},
		{"two holders, both away", claimant{role: server, replace: true}, []holder{had(valid, &no), had(longEnded, &no)}, true, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			earlier, ok := claim(tt.who, tt.holders, now)
			if ok != tt.ok || len(earlier) != tt.earlier {
				t.Errorf("got %v, %v; want %v, %d", earlier, ok, tt.ok, tt.earlier)
			}
		})
	}
}

// TestNameComesBack is the story of a rebuilt host.
func TestNameComesBack(t *testing.T) {
	l := newLab(t)
	first := mustJoin(t, options(t, l.token(t), "gpu-1"))
	l.living[first.ID] = true
	replace := func(o *TokenOptions) { o.Replace = true }

	_, err := join(t, options(t, l.token(t, replace), "gpu-1"))
	wantCode(t, err, CodeNameTaken) // it is alive
	l.living[first.ID] = false
	_, err = join(t, options(t, l.token(t), "gpu-1"))
	wantCode(t, err, CodeNameTaken) // nobody said that it is replaced
	if replaced, _ := l.told(); len(replaced) != 0 {
		t.Fatalf("told of %v", replaced)
	}
	second := mustJoin(t, options(t, l.token(t, replace), "gpu-1"))
	replaced, _ := l.told()
	if len(replaced) != 1 || replaced[0].ID != first.ID || replaced[0].Name != "gpu-1" || replaced[0].Addr != first.Addr {
		t.Errorf("told of %v", replaced)
	}
	if second.Addr == first.Addr {
		t.Error("the address did not rest")
	}
	a, err := l.dir.Allocations()
	if err != nil || find(a, first.ID) != nil || find(a, second.ID) == nil || len(a.Succeeded) != 0 {
		t.Errorf("ledger %+v, %v", a, err)
	}
	// The earlier node's host comes back: it is told that it was replaced.
	l.revoke(t, first.ID)
	_, err = join(t, options(t, l.token(t), "gpu-1"))
	wantCode(t, err, CodeNameTaken)
}

func TestNamePassesAfterItsTime(t *testing.T) {
	l := newLab(t)
	first := mustJoin(t, options(t, l.token(t), "gpu-1"))
	at := func(d time.Duration) (JoinOptions, func() time.Time) {
		now := func() time.Time { return time.Now().Add(d) }
		l.skew.Store(int64(d))
		if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: now}); err != nil {
			t.Fatal(err)
		}
		o := options(t, l.token(t, func(o *TokenOptions) { o.now = now }), "gpu-1")
		o.now = now
		return o, now
	}
	o, _ := at(pki.NodeLife + nameRest - time.Minute)
	_, err := join(t, o)
	wantCode(t, err, CodeNameTaken)
	// Another gateway renewed the node meanwhile, as the mesh knows.
	o, now := at(pki.NodeLife + nameRest + time.Minute)
	l.knows(discovery.Identity{ID: first.ID, Name: "gpu-1", Role: discovery.RoleServer, NotAfter: now().Add(time.Hour)}, false)
	_, err = join(t, o)
	wantCode(t, err, CodeNameTaken)
	l.mesh = nil
	second := mustJoin(t, o)
	if replaced, _ := l.told(); len(replaced) != 1 || replaced[0].ID != first.ID {
		t.Errorf("told of %v", replaced)
	}
	if second.ID == first.ID {
		t.Error("the same node")
	}
}

// TestNameOfAnotherGatewaysNode is known from the mesh only.
func TestNameOfAnotherGatewaysNode(t *testing.T) {
	l := newLab(t)
	far := discovery.Identity{
		ID: "0badc0de0badc0de0badc0de0badc0de", Name: "gpu-7", Site: "idc", Role: discovery.RoleServer,
		Addr: netip.MustParseAddr("10.86.16.9"), NotAfter: time.Now().Add(24 * time.Hour),
	}
	l.knows(far, false)
	_, err := join(t, options(t, l.token(t), "gpu-7"))
	wantCode(t, err, CodeNameTaken)
	mustJoin(t, options(t, l.token(t, func(o *TokenOptions) { o.Replace = true }), "gpu-7"))
	if replaced, _ := l.told(); len(replaced) != 1 || replaced[0].ID != far.ID || replaced[0].Addr != far.Addr {
		t.Errorf("told of %v", replaced)
	}
}

// TestReplacedIsToldAfterACrash has the process end between the disk and the
// house.
func TestReplacedIsToldAfterACrash(t *testing.T) {
	l := newLab(t)
	first := mustJoin(t, options(t, l.token(t), "gpu-1"))
	a, err := l.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	succeed(&a, []discovery.Identity{{ID: first.ID, Name: "gpu-1"}}, "new", time.Now())
	if err := l.dir.SetAllocations(a); err != nil {
		t.Fatal(err)
	}
	mustJoin(t, options(t, l.token(t), "gpu-2"))
	if replaced, _ := l.told(); len(replaced) != 1 || replaced[0].ID != first.ID {
		t.Errorf("told of %v", replaced)
	}
	mustJoin(t, options(t, l.token(t), "gpu-3"))
	if replaced, _ := l.told(); len(replaced) != 1 {
		t.Errorf("told again: %v", replaced)
	}
}

func TestTake(t *testing.T) {
	now := time.Unix(1e9, 0)
	block := netip.MustParsePrefix("10.0.0.0/28")
	full := func() statedir.Allocations {
		a := statedir.Allocations{Block: block}
		for i := range 13 {
			e, _ := take(&a, discovery.NodeID(rune('a'+i)), func(netip.Addr) bool { return false }, now)
			e.Role, e.NotAfter = discovery.RoleServer, now.Add(pki.NodeLife)
		}
		return a
	}
	used := func(addrs ...string) func(netip.Addr) bool {
		return func(x netip.Addr) bool {
			for _, s := range addrs {
				if x == netip.MustParseAddr(s) {
					return true
				}
			}
			return false
		}
	}
	t.Run("never used first", func(t *testing.T) {
		a := statedir.Allocations{Block: block}
		e, _ := take(&a, "a", used(), now)
		e.Freed = now.Add(-48 * time.Hour)
		if e, _ := take(&a, "b", used(), now); e.Addr != netip.MustParseAddr("10.0.0.3") {
			t.Errorf("got %s", e.Addr)
		}
	})
	t.Run("used in the mesh all the same", func(t *testing.T) {
		a := statedir.Allocations{Block: block}
		if e, _ := take(&a, "a", used("10.0.0.2", "10.0.0.3"), now); e.Addr != netip.MustParseAddr("10.0.0.4") {
			t.Errorf("got %s", e.Addr)
		}
		a = full()
		a.Addrs[3].Freed = now
		later := now.Add(pki.NodeLife + addrRest)
		if e, _ := take(&a, "z", used(a.Addrs[3].Addr.String()), later); e != nil {
			t.Errorf("got %s, which is used", e.Addr)
		}
	})
	t.Run("who rested longest", func(t *testing.T) {
		a := full()
		for i, d := range map[int]time.Duration{2: 3, 5: 1, 9: 2} {
			a.Addrs[i].Freed, a.Addrs[i].NotAfter = now.Add(d*time.Hour), now
		}
		want := a.Addrs[5].Addr
		if e, before := take(&a, "z", used(), now.Add(90*time.Hour)); e == nil || e.Addr != want || before != nil {
			t.Errorf("got %v, %v", e, before)
		}
	})
	t.Run("the newest end counts", func(t *testing.T) {
		a := full()
		free(&a.Addrs[0], now, now.Add(60*24*time.Hour))
		if e, _ := take(&a, "z", used(), now.Add(60*24*time.Hour+addrRest-1)); e != nil {
			t.Error("given while a certificate of another gateway holds")
		}
		if e, _ := take(&a, "z", used(), now.Add(60*24*time.Hour+addrRest)); e == nil {
			t.Error("not given")
		}
	})
	t.Run("over for ever", func(t *testing.T) {
		a := full()
		late := now.Add(pki.NodeLife + maxOver + addrRest)
		if e, _ := take(&a, "z", used(), late.Add(-time.Second)); e != nil {
			t.Errorf("got %s, whose node may be renewed", e.Addr)
		}
		e, before := take(&a, "z", used(), late)
		if e == nil || before == nil || before.ID != "a" || e.Node != "z" || e.Addr != netip.MustParseAddr("10.0.0.2") {
			t.Errorf("got %v, before %v", e, before)
		}
	})
}

func TestForget(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := statedir.Allocations{Block: netip.MustParsePrefix("10.0.0.0/16")}
	addr := netip.MustParseAddr("10.0.0.2")
	for i := range maxRested + 500 {
		e := statedir.Allocation{Addr: addr, Node: "x", Role: discovery.RoleServer, NotAfter: now}
		if i%100 != 0 {
			e.Freed = now.Add(-time.Duration(i) * time.Second)
		}
		a.Addrs = append(a.Addrs, e)
		addr = addr.Next()
	}
	forget(&a, now)
	if len(a.Addrs) != maxRested+500 {
		t.Errorf("%d left of addresses that rest", len(a.Addrs))
	}
	forget(&a, now.Add(addrRest))
	inUse, resting := 0, 0
	for _, e := range a.Addrs {
		if e.Freed.IsZero() {
			inUse++
		} else {
			resting++
		}
	}
	if inUse != 46 || resting != maxRested {
		t.Errorf("%d in use, %d resting", inUse, resting)
	}
}

func TestReleaseAndEphemeral(t *testing.T) {
	l := newLab(t)
	a := mustJoin(t, options(t, l.token(t, func(o *TokenOptions) { o.Ephemeral = true }), "gpu-1"))
	mustJoin(t, options(t, l.token(t), "gpu-2"))
	list, err := ListTransient(l.dir)
	if err != nil || len(list) != 1 || list[0].ID != a.ID || list[0].Name != "gpu-1" || list[0].Site != "idc" || list[0].Since.IsZero() || list[0].Instance != "" {
		t.Errorf("got %+v, %v", list, err)
	}
	end := time.Now().Add(300 * 24 * time.Hour)
	if err := Release(l.dir, a.ID, time.Now(), end); err != nil {
		t.Fatal(err)
	}
	if list, err := ListTransient(l.dir); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	ledger, err := l.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ledger.Addrs {
		if e.Node == a.ID && (e.Freed.IsZero() || !e.NotAfter.Equal(end.UTC())) {
			t.Errorf("got %+v", e)
		}
	}
	if err := Release(l.dir, l.res.ID, time.Now(), time.Time{}); !errors.Is(err, ErrNoSuchNode) {
		t.Errorf("the gateway itself was released: %v", err)
	}
}
