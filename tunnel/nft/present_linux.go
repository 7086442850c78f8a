package nft

import (
	"slices"

	"github.com/google/nftables"
)

// Present tells whether our table is there.
func Present() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, explain("open nftables", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain("read nftables", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}
