// Package pki makes and checks the mesh's certificates and enrolment tokens.
//
// It promises that what it makes is ordinary X.509 with Ed25519 (RFC 8410),
// which openssl can read and verify, and that [Verify] accepts nothing that an
// issuer was not allowed to say:
//
//	root      10 years, self-signed, "NAME mesh root". Its name constraints hold
//	          the mesh: prefix (IP), domain (DNS), name (URI). Whoever pins the
//	          root has pinned all three.
//	issuer    1 year, one per gateway, path length 0. Its permitted addresses
//	          are the gateway's block of the mesh prefix.
//	node      30 days, client and server, not a CA. SAN: URI
//	          spiffe://MESH/site/SITE/ROLE/NAME, the overlay address, DNS
//	          NAME.DOMAIN; the WireGuard key in an extension.
//
// An issuer may certify one gateway only: the address of a gateway is the
// first of its issuer's block, and no server has that address. So a gateway's
// key can make servers within its block, never a second gateway. To make a
// gateway takes the root key.
//
// All certificates are backdated five minutes, for clocks that are a little
// behind. A certificate outside its time is still a known identity: Verify
// returns it together with [ErrExpired] or [ErrNotYetValid], since a wrong
// clock or a late renewal must not by itself cut a tunnel that carries
// traffic. The caller chooses. Revocation is the caller's too.
//
// It owns nothing outside the process. It imports the standard library and the
// discovery dictionary. It takes bytes and the time and returns bytes; it never
// reads a file, a socket or the clock.
package pki
