package nft

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"drawbridge/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func needNFT(t *testing.T) {
	t.Helper()
	nstest.Need(t)
	if err := Available(); err != nil {
		t.Skip(err)
	}
}

// handles are the kernel's numbers of our rules; they change when rewritten.
func handles(t *testing.T) (out []uint64) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChains()
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range chains {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			out = append(out, r.Handle)
		}
	}
	return out
}

func TestApply(t *testing.T) {
	needNFT(t)
	s := nstest.NewSpace(t)
	s.Do(func() {
		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		foreign := c.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyINet})
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		table := New(Options{})
		for name, f := range map[string]func() error{
			"gateway": func() error { return table.Apply(t.Context(), gateway()) },
			"server":  func() error { return table.Apply(t.Context(), server()) },
			"bare":    func() error { return table.Apply(t.Context(), bare()) },
			"dual":    func() error { return table.Apply(t.Context(), dual(gateway())) },
			"subnets": func() error { return table.Apply(t.Context(), dual(advertising())) },
		} {
			if err := f(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			before := handles(t)
			if err := f(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, handles(t)); diff != "" || len(before) == 0 {
				t.Errorf("%s: an equal wish rewrote %d rules (-want +got)\n%s", name, len(before), diff)
			}
		}

		// Somebody empties the table: the next Apply heals it.
		c.FlushTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := table.Apply(t.Context(), gateway()); err != nil {
			t.Fatal(err)
		}
		have, err := marks(c)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wishMarks(ruleset(gateway())), have); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}

		for range 2 {
			if err := Cleanup(); err != nil {
				t.Fatal(err)
			}
		}
		left, err := c.ListTables()
		if err != nil || len(left) != 1 || left[0].Name != foreign.Name {
			t.Errorf("tables left: %v, %v; want the foreign one alone", left, err)
		}
	})
}
