package pki

import (
	"bytes"
	"slices"
	"testing"
)

func TestDescribeChains(t *testing.T) {
	p := newPKI(t, testMesh)
	node := p.issue(t, testClaims())
	renewed := p.renew(t, node)
	for _, tt := range []struct {
		name            string
		chain           [][]byte
		issuer, renewer string
		cas             [][]byte
	}{
		{"an original", node, "gw-b", "", [][]byte{p.issuer.Cert()}},
		{"a renewal", renewed, "gw-b", "gw-c", [][]byte{p.renewer.Cert(), p.issuer.Cert()}},
		{"a renewal cut short", renewed[:2], "", "gw-c", [][]byte{p.renewer.Cert()}},
		{"a node alone", node[:1], "", "", nil},
		{"rubbish", [][]byte{{1}, {2}, {3}, {4}}, "", "", nil},
		{"nothing", nil, "", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if issuer, renewer := Signers(tt.chain); issuer != tt.issuer || renewer != tt.renewer {
				t.Errorf("by %q and %q", issuer, renewer)
			}
			if got := CAsOf(tt.chain); !slices.EqualFunc(got, tt.cas, bytes.Equal) {
				t.Errorf("%d CA certificates, want %d", len(got), len(tt.cas))
			}
		})
	}
	for want, ca := range map[string][]byte{"gw-b": p.issuer.Cert(), "gw-c": p.renewer.Cert()} {
		if got := Gateway(ca); got != want {
			t.Errorf("a certificate of %q, want %q", got, want)
		}
	}
	for _, ca := range [][]byte{p.root.Cert(), node[0], {1}} {
		if got := Gateway(ca); got != "" {
			t.Errorf("a certificate of the gateway %q", got)
		}
	}
}
