// Package enroll brings hosts into a mesh: it makes a mesh, makes tokens,
// redeems them on a gateway, joins with them on a new host, and renews
// certificates.
//
// It promises:
//   - Private keys are made on the host that uses them and never leave it.
//   - A token's secret is proven by signature, never sent, and the gateway
//     keeps the public half only. The proof is bound to the TLS connection
//     (RFC 8446 exporter), so it is worth nothing anywhere else.
//   - A new host sends nothing before the gateway has shown a chain to the
//     root that the token pins, with the role of a gateway.
//   - A use of a token is counted on disk before the answer goes out. The same
//     identity key asking again gets the same answer and spends no second use.
//   - A token is known to the gateway that made it and to no other. So there is
//     one place that counts, and no instant and no partition lets a token be
//     redeemed twice. When that gateway is lost, make a token at another.
//   - An address is written to the ledger before it is certified. It is given
//     again only when it was freed, its last certificate has ended, and a day
//     of quarantine has passed.
//   - A crash at any moment of init or join leaves "not joined", and running
//     the same command again goes on with the same keys.
//
// The wire: TCP, TLS 1.3, one question and one answer of at most 64 KiB, each
// a JSON value after its length. A joining gateway makes its own issuing key
// and certifies itself with it; it sends that certificate in a second frame,
// so that the mesh can be told of it.
//
// It owns nothing outside the process but, through agent/statedir, the state
// directory. It imports the dictionaries, agent/pki and agent/statedir. It
// never touches interfaces or routes: who calls says by a hook whether the mesh
// prefix clashes with the host.
package enroll
