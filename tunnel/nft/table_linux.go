package nft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"drawbridge/tunnel"
)

const tableName = "drawbridge"

// Options of a [Table]. The zero value works.
type Options struct {
	Logger *slog.Logger // nil discards
}

// Table is the table "inet drawbridge" of this network namespace.
type Table struct {
	log *slog.Logger
	mu  sync.Mutex // one transaction at a time
}

// New makes a Table and touches nothing.
func New(o Options) *Table {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Table{log: o.Logger}
}

// Apply makes the table equal to f, in one transaction, if it is not already.
// An error leaves the table as it was. Without CAP_NET_ADMIN it wraps
// [os.ErrPermission].
func (t *Table) Apply(ctx context.Context, f tunnel.Filter) error {
	if err := check(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	want := ruleset(f)
	have, err := marks(c)
	if err != nil {
		return explain("read nftables", err)
	}
	if slices.Equal(have, wishMarks(want)) {
		t.log.Debug("packet filter unchanged")
		return nil
	}
	if err := replace(c, want); err != nil {
		return explain("replace table inet "+tableName, err)
	}
	t.log.Info("packet filter replaced", "reason", why(have))
	return nil
}

func why(have []string) string {
	if have == nil {
		return "there was none"
	}
	return "the wish or the table changed"
}

// Cleanup removes the table, whoever made it. One that is not there is fine.
func Cleanup() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	// Adding first makes the deletion succeed either way.
	own := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(own)
	c.DelTable(own)
	return explain("remove table inet "+tableName, c.Flush())
}

// Available tells whether this process may use nftables, and if not, why.
func Available() error {
	c, err := nftables.New()
	if err == nil {
		_, err = c.ListTablesOfFamily(nftables.TableFamilyINet)
	}
	return explain("use nftables", err)
}

// replace writes the table anew, the old one going in the same transaction.
func replace(c *nftables.Conn, chains []chain) error {
	own := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(own)
	c.DelTable(own)
	c.AddTable(own)
	pass := nftables.ChainPolicyAccept
	for _, w := range chains {
		ch := c.AddChain(&nftables.Chain{Name: w.name, Table: own, Type: w.kind, Hooknum: w.hook, Priority: w.priority, Policy: &pass})
		for _, r := range w.rules {
			exprs, err := evaluate(c, own, r)
			if err != nil {
				return err
			}
			c.AddRule(&nftables.Rule{Table: own, Chain: ch, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, mark(r))})
		}
	}
	return c.Flush()
}

// evaluate joins the expressions of a rule and makes its sets.
func evaluate(c *nftables.Conn, own *nftables.Table, r rule) ([]expr.Any, error) {
	var exprs []expr.Any
	for _, p := range r {
		if p.set != nil {
			s := &nftables.Set{Table: own, Anonymous: true, Constant: true, KeyType: p.kind}
			if err := c.AddSet(s, p.set); err != nil {
				return nil, fmt.Errorf("make set %q: %w", p.text, err)
			}
			look := *p.exprs[len(p.exprs)-1].(*expr.Lookup)
			look.SetName, look.SetID = s.Name, s.ID
			exprs = append(append(exprs, p.exprs[:len(p.exprs)-1]...), &look)
			continue
		}
		exprs = append(exprs, p.exprs...)
	}
	return exprs, nil
}

// mark is a rule's comment in the kernel. It carries a digest of what the rule
// says, so that a table can be compared with a wish without reading back every
// expression (not all can be).
func mark(r rule) string {
	sum := sha256.Sum256([]byte(r.String()))
	return "drawbridge " + hex.EncodeToString(sum[:8])
}

// wishMarks are the marks of a wish, chain by chain.
func wishMarks(chains []chain) []string {
	out := make([]string, 0, 32)
	for _, c := range chains {
		out = append(out, "chain "+c.name)
		for _, r := range c.rules {
			out = append(out, mark(r))
		}
	}
	return out
}

// marks are the marks of the table in the kernel; nil when there is none.
func marks(c *nftables.Conn) ([]string, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if i < 0 {
		return nil, nil
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, ch := range chains {
		if ch.Table.Name != tableName {
			continue
		}
		out = append(out, "chain "+ch.Name)
		rules, err := c.GetRules(tables[i], ch)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			m, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			out = append(out, m)
		}
	}
	return out, nil
}

// explain adds the next step to what the kernel says.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s: %w; run as root or grant CAP_NET_ADMIN", what, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %w; the kernel may lack nf_tables or its nat, ct or exthdr modules", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
