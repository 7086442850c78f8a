package pki

import (
	"crypto/x509"
	"slices"
)

// maxAlternatives bounds the chains that a client tries.
const maxAlternatives = 8

// Alternatives lists the chains that a list of certificates from a TLS
// handshake may mean, for [Verify]. While the root is being replaced a server
// presents its own certificate under both roots
//
//	node, issuer, root, the same issuer under the other root, the other root
//
// because it cannot know which one the client trusts; a client goes through
// the alternatives and takes the first that verifies. The list as it came is
// the first of them. Signatures below the roots are checked, nothing else;
// there are at most eight.
func Alternatives(chain [][]byte) [][][]byte {
	if len(chain) < 2 || len(chain) > maxChain {
		return nil
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := parseCert(der)
		if err != nil {
			return nil
		}
		certs[i] = c
	}
	out := [][][]byte{chain}
	add := func(alternative ...[]byte) {
		same := func(have [][]byte) bool {
			return len(have) >= len(alternative) && slices.EqualFunc(have[:len(alternative)], alternative, slices.Equal)
		}
		if len(out) < maxAlternatives && !slices.ContainsFunc(out, same) {
			out = append(out, alternative)
		}
	}
	for _, above := range certs[1:] {
		if certs[0].CheckSignatureFrom(above) != nil {
			continue
		}
		if marked, err := hasMark(above); err != nil || !marked {
			add(chain[0], above.Raw)
			continue
		}
		for _, first := range certs[1:] {
			for _, issuer := range certs[1:] {
				if !first.IsCA && first.CheckSignatureFrom(issuer) == nil {
					add(chain[0], above.Raw, first.Raw, issuer.Raw)
				}
			}
		}
	}
	return out
}
