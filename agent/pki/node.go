package pki

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"drawbridge/discovery"
)

// oidWireGuard marks the extension with the node's WireGuard public key: an
// OCTET STRING of 32 bytes, not critical, so that any tool can verify the
// certificate. The number was derived from a random UUID in the way that
// Microsoft documents for object identifiers without a registered arc
// ("Obtaining an Object Identifier from a Script"): 2.25.UUID would not fit
// the 31-bit arcs of many ASN.1 libraries, Go's among them.
var oidWireGuard = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 27340, 30769, 41601, 18723, 42369, 15168815, 14690164}

// Claims are what a node certificate binds, besides mesh and domain, which
// come from the issuer.
type Claims struct {
	Name      string
	Site      string
	Role      discovery.Role
	Addr      netip.Addr        // overlay address, in the issuer's block
	Identity  ed25519.PublicKey // the node's
	WireGuard [32]byte          // public key
	// Subnets are the networks behind the node that it may speak for; servers
	// only. See [CheckSubnets].
	Subnets []netip.Prefix
	Life    time.Duration // from now; 0: NodeLife; MinNodeLife to MaxNodeLife
}

// IssueNode certifies a node with a gateway's issuing certificate: it makes an
// original. It returns the certificate, DER.
func IssueNode(issuer *Signer, c Claims, now time.Time) ([]byte, error) {
	m, block, err := issuerOf(issuer.cert)
	if err == nil {
		err = c.check(block)
	}
	if err != nil {
		return nil, fmt.Errorf("issue node certificate: %w", err)
	}
	der, err := signNode(issuer, m, c, now)
	if err != nil {
		return nil, fmt.Errorf("issue node certificate: %w", err)
	}
	return der, nil
}

// signNode signs claims that were checked.
func signNode(s *Signer, m Mesh, c Claims, now time.Time) ([]byte, error) {
	life, err := c.life()
	if err != nil {
		return nil, err
	}
	from, to, err := window(s.cert, now, life)
	if err != nil {
		return nil, err
	}
	key, err := asn1.Marshal(c.WireGuard[:])
	if err != nil {
		return nil, err
	}
	subnets, err := subnetsExtension(c.Subnets)
	if err != nil {
		return nil, err
	}
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: c.Name},
		NotBefore:             from,
		NotAfter:              to,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{c.Name + "." + m.Domain},
		IPAddresses:           []net.IP{c.Addr.AsSlice()},
		URIs:                  []*url.URL{nodeURI(m.Name, c)},
		ExtraExtensions:       append([]pkix.Extension{{Id: oidWireGuard, Value: key}}, subnets...),
	}, s.cert, c.Identity, s.key)
}

// NodeID is the name of a key in gossip and logs, see [discovery.NodeID].
func NodeID(pub ed25519.PublicKey) discovery.NodeID {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "" // not for any Ed25519 key
	}
	sum := sha256.Sum256(der)
	return discovery.NodeID(hex.EncodeToString(sum[:16]))
}

// check holds for what is issued and for what is verified.
func (c Claims) check(block netip.Prefix) error {
	if err := CheckLabel("name", c.Name); err != nil {
		return err
	}
	if err := CheckLabel("site", c.Site); err != nil {
		return err
	}
	if err := CheckRole(c.Role); err != nil {
		return err
	}
	if err := checkPublic(c.Identity); err != nil {
		return err
	}
	if c.WireGuard == [32]byte{} {
		return errors.New("no wireguard key")
	}
	if err := c.checkSubnets(block); err != nil {
		return err
	}
	return checkAddr(block, c.Addr, c.Role)
}

// checkAddr holds the rule of the block: first address for its gateway, the
// others for servers, network and broadcast address for nobody.
func checkAddr(block netip.Prefix, addr netip.Addr, role discovery.Role) error {
	if !addr.Is4() || !block.Contains(addr) {
		return fmt.Errorf("address %s is outside the issuer's block %s", addr, block)
	}
	first, last := FirstAddr(block), lastAddr(block)
	switch {
	case role == discovery.RoleGateway && addr != first:
		return fmt.Errorf("a gateway must have the first address of its block, %s, not %s", first, addr)
	case role == discovery.RoleServer && !(first.Less(addr) && addr.Less(last)):
		return fmt.Errorf("address %s of the block %s is not for servers", addr, block)
	}
	return nil
}

func nodeURI(mesh string, c Claims) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: mesh, Path: "/site/" + c.Site + "/" + string(c.Role) + "/" + c.Name}
}
