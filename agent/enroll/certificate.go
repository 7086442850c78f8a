package enroll

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"

	"drawbridge/agent/pki"
)

// certificate is read anew for each connection: it renews under us. Behind the
// node's certificate stand its issuer and that one's root, and the same again
// under each further root that is trusted: a joining host may have pinned any
// of them.
func (s *Server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	chain, err := s.opts.Dir.Chain()
	if err != nil {
		return nil, err
	}
	key, err := s.opts.Dir.IdentityKey()
	if err != nil {
		return nil, err
	}
	t, bad := s.trusting()
	if bad != nil {
		return nil, bad
	}
	cas := slices.Clone(chain[1:])
	if issuer, err := s.opts.Dir.Issuer(); err == nil {
		cas = append(cas, issuer)
	}
	cas = append(cas, t.roll.CAs()...)
	return &tls.Certificate{Certificate: s.shown.presented(chain[0], cas, t.roll.Roots().Certs()), PrivateKey: key}, nil
}

// shown remembers the last list: strangers ask for it a thousand times a
// second, and it changes once in two weeks.
type shown struct {
	mu   sync.Mutex // guards the fields below
	from [][]byte
	list [][]byte
}

func (s *shown) presented(leaf []byte, cas, roots [][]byte) [][]byte {
	from := slices.Concat([][]byte{leaf}, cas, roots)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(from, s.from, bytes.Equal) {
		s.from, s.list = from, presented(leaf, cas, roots)
	}
	return s.list
}

// presented puts the certificates together: for each root, in the order given,
// the first CA certificate that it signed, and the root.
func presented(leaf []byte, cas, roots [][]byte) [][]byte {
	list := [][]byte{leaf}
	c, err := x509.ParseCertificate(leaf)
	if err != nil {
		return list
	}
	above := parsed(cas)
	for _, root := range parsed(roots) {
		if len(list)+2 > maxChain {
			break
		}
		i := slices.IndexFunc(above, func(ca *x509.Certificate) bool {
			renews, err := pki.IsRenewer(ca.Raw)
			return err == nil && !renews && !bytes.Equal(ca.Raw, root.Raw) &&
				c.CheckSignatureFrom(ca) == nil && ca.CheckSignatureFrom(root) == nil &&
				!c.NotBefore.Before(ca.NotBefore) && !c.NotAfter.After(ca.NotAfter)
		})
		if i >= 0 {
			list = append(list, above[i].Raw, root.Raw)
		}
	}
	return list
}

func parsed(ders [][]byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, der := range ders {
		if c, err := x509.ParseCertificate(der); err == nil {
			certs = append(certs, c)
		}
	}
	return certs
}
