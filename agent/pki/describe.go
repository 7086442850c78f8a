package pki

import "strings"

// Signers names who made a chain that was verified: the gateway that certified
// the node and, if somebody did, the one that renewed that. "" where a
// certificate cannot be read.
func Signers(chain [][]byte) (issuer, renewer string) {
	if len(chain) < 2 {
		return "", ""
	}
	if renews, err := IsRenewer(chain[1]); err != nil || !renews {
		return gatewayOf(chain[1], wordIssuer), ""
	}
	if len(chain) > 3 {
		issuer = gatewayOf(chain[3], wordIssuer)
	}
	return issuer, gatewayOf(chain[1], wordRenewer)
}

// CAsOf lists the CA certificates of gateways in a chain that was verified.
func CAsOf(chain [][]byte) [][]byte {
	var out [][]byte
	for i := 1; i < len(chain) && i < 4; i += 2 {
		if c, err := parseCert(chain[i]); err == nil && c.IsCA && c.MaxPathLenZero {
			out = append(out, chain[i])
		}
	}
	return out
}

// Gateway names the gateway that an issuer's or renewer's certificate (DER)
// belongs to; "" for any other.
func Gateway(ca []byte) string {
	for _, word := range []string{wordIssuer, wordRenewer} {
		if name := gatewayOf(ca, word); name != "" {
			return name
		}
	}
	return ""
}

// gatewayOf is the gateway's name in a CA certificate's subject.
func gatewayOf(ca []byte, word string) string {
	c, err := parseCert(ca)
	if err != nil {
		return ""
	}
	_, name, _ := strings.Cut(c.Subject.CommonName, word)
	return name
}
