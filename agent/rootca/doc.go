// Package rootca does what needs the root key: certifying gateways, taking
// back the blocks of lost ones, replacing the root, and revoking an issuing
// key. It works on a state directory that holds the key: a gateway's, or an
// offline one that holds nothing but root.key, roots.pem and a ledger of
// blocks (see [CreateRootDir]). What travels to such a directory and back, on
// paper or a stick, is public: a [Request], a [Grant], a notice.
//
// It promises that no block of addresses is given twice while anybody may
// still use it; that the ledger is on disk before a certificate leaves; that
// every step of a rotation can be repeated after a crash, with the same
// outcome; and that every act is in the history before it takes effect.
//
// # Rotation
//
// The root is replaced in three steps, each of which yields a notice for the
// whole mesh, signed by all roots that are trusted then:
//
//	         trusted    certifies   keys on disk
//	start    old        old         root.key = old
//	Rotate   old, new   old         root.key = old, next-root.key = new
//	Switch   new, old   new         root.key = new, old-root.key = old
//	Retire   new        new         root.key = new
//
// Between two steps every node has to have heard: whoever missed all of them
// and trusts the old root only still believes the last notice, because the old
// root has signed it too. After two whole rotations such a node has to join
// again. What the old root alone has said is said again by [Reissue] before it
// retires.
//
// Its functions read and then write: callers run them within
// [statedir.Dir.Update]. It owns nothing of its own. It imports the standard
// library, the discovery dictionary, and the rooms pki, statedir and history;
// it never touches the network, reads no clock, and never logs.
package rootca
