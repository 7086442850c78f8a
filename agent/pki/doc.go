// Package pki makes and checks the mesh's certificates, the notices that take
// trust away or move it, and enrolment tokens.
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
//	renewer   1 year, for the same key as the gateway's issuer, path length 0,
//	          marked by an extension. Its permitted addresses are the whole mesh
//	          prefix.
//	node      30 days (a minute to 90 days), client and server, not a CA. SAN: URI
//	          spiffe://MESH/site/SITE/ROLE/NAME, the overlay address, DNS
//	          NAME.DOMAIN; the WireGuard key in an extension, and in another
//	          the networks behind the node that it may speak for.
//
// An issuer may certify one gateway only: the address of a gateway is the
// first of its issuer's block, and no server has that address. So a gateway's
// key can make servers within its block, never a second gateway. To make a
// gateway takes the root key.
//
// A node certificate under an issuer is an original. One under a renewer is a
// renewal: it counts only together with the original that it extends, and must
// say the same. So any gateway can renew any server and invent nothing, and
// what a lost gateway issued stays valid. Gateways certify themselves, with
// originals.
//
// All certificates are backdated five minutes, for clocks that are a little
// behind. A certificate outside its time is still a known identity: Verify
// returns it together with [ErrExpired] or [ErrNotYetValid], since a wrong
// clock or a late renewal must not by itself cut a tunnel that carries
// traffic. The caller chooses, within the 30 days that a revocation outlasts
// the longest certificate (see [NoticeLife]).
//
// A [Notice] is a small signed statement, spread to all nodes: a node is
// revoked, or set apart for a while; an issuing key is revoked; the roots are
// these now. A [Roll] is all that a node was told and believes; [Roll.Verify]
// is Verify in its light. There are two roots while one replaces the other.
//
// It owns nothing outside the process. It imports the standard library and the
// discovery dictionary. It takes bytes and the time and returns bytes; it never
// reads a file, a socket or the clock, and starts nothing.
package pki
