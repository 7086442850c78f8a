// Package enroll is the life of trust on the wire: it makes a mesh, makes
// tokens, lets hosts in by a token or by their AWS identity, renews
// certificates, certifies gateways again, lets nodes leave, and tells a node
// how it stands.
//
// # Promises
//
// Keys. Private keys are made on the host that uses them and never leave it. A
// token's secret is proven by signature, never sent, and the gateway keeps the
// public half only. Every proof is bound to its TLS connection (RFC 8446
// exporter) and its purpose, so it is worth nothing anywhere else. A host sends
// nothing before the gateway has shown a chain to the root that the token pins,
// or that the member trusts, with the role of a gateway. Roots are believed by
// signed notices only, never because a gateway says so.
//
// Single use. A token is known to the gateway that made it, its home, and to no
// other: so there is one place that counts, and no instant and no partition
// lets it be redeemed twice. There a use is spent under one lock, across
// processes, and is on disk before the answer goes out; the address is on disk
// before that. A process that ends at any write leaves either nothing, or an
// address that waits for the same identity, or a spent use; and the same
// identity asking again, with the same claims, gets the same answer and spends
// no second use. A host that waits for a person holds its use while it waits
// and after it was refused. When the home gateway is lost, make a token at
// another.
//
// Renewal. Any gateway renews any server. Where the node's address is from, its
// home, it gets an original, with the claims in the ledger; elsewhere its
// certificate is extended, with the claims it has, see agent/pki. A certificate
// that has ended is renewed for the same key three times in all at one gateway:
// at home for 180 days; elsewhere as long as a revocation would still be known,
// 110 days after its issue. Revoked and quarantined nodes are not renewed, and
// do not join by a token either.
//
// Names. A name belongs to its node until that node left or was revoked, or
// until its certificate has ended for 72 hours and it is not there any more. A
// rebuilt host with a new key gets its name back before that only by a token
// made with Replace, or by the same EC2 instance, and only if the earlier node
// has the same role and is not alive. The earlier node is told to the house,
// which revokes it; after a crash it is told again. One key has one name.
//
// Subnets. What networks behind it a server may have in its certificate is in
// the ledger of the gateway that its address is from: by its token or rule, or
// by a person later ([AllowSubnets]). A renewal there has those of them that the
// node asks for; elsewhere, those of the original.
//
// Addresses. An address is given again only when it was freed (or its node is so
// long over that nobody renews it), the newest certificate for it anywhere has
// ended, a day has passed, and nobody in the mesh uses it; those never given
// come first. There is one live node per EC2 instance and home.
//
// Init and join. A crash at any moment leaves "not joined", and running the
// same command again goes on with the same keys.
//
// Audit. Every token, certificate, verdict, leave and replacement is in the
// history with its actor.
//
// # The wire
//
// TCP, TLS 1.3, version 2: one question of at most 64 KiB and one answer of at
// most 256, each a JSON value after its length. Unknown fields in a question
// are refused.
//
//	join      token                    a certificate, or wait and ask again
//	join-aws  signed AWS identity      the same, by the gateway's rules
//	renew     chain                    a certificate
//	certify   chain, issuing key       a gateway's certificates again
//	leave     chain                    released
//	hello     chain                    time and standing, nothing else
//
// A joining gateway makes its own issuing key. The root key certifies it if it
// is at this gateway; otherwise the request is carried to the root key and the
// grant brought back ([RootRequests], [InstallGrant]) while the gateway waits.
// It certifies itself with that, and sends its certificate in a second frame,
// so that the mesh can be told of it.
//
// The same port takes members' connections for streams of datagrams, told apart
// by their protocol (ALPN): TLS with certificates on both sides, and within the
// limits of the door until that is done. Then they are handed over.
//
// # What a stranger can cost
//
// Whoever has neither token nor certificate costs the TLS handshake, within the
// limits of the door (see accept.go), one JSON value of 64 KiB, and a few
// signatures to check. He takes no lock and writes no file, but for the journal:
// there, refusals are one a minute per source and cause, sixty a minute in all,
// and a count of the rest. A claimed AWS identity costs one question to AWS, of
// which eight are under way at most, five seconds each, outside any lock. A
// token's holder can have as many hosts wait as the token has uses, 256 in all.
//
// # Edges
//
// It owns nothing outside the process but, through agent/statedir, the state
// directory, and through agent/history its journal. It imports the dictionaries
// and the rooms pki, statedir, history and rootca. It never touches interfaces,
// routes or AWS: who calls brings hooks.
package enroll
