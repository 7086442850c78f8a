// Package statedir keeps what a node must remember over a restart: its keys
// and certificates, who it is, and, on a gateway, tokens and the ledger of
// addresses given away; further the caches that make a restart quick (signed
// peer records, endpoints, the brain's memory, the latest time of the clock).
//
// It promises that a file is either the old one or the new one, never half of
// each (temporary file, fsync, rename, fsync of the directory); that every
// file is read bounded, with its kind, version, length and SHA-256 checked, so
// that a damaged one is a clear error and never a crash or a silent default;
// that only the owner can read it (0700 and 0600, repaired when too open); and
// that two agents never run on one directory.
//
// It owns outside the process: the state directory, flat but for tokens/ and
// pending/, and two advisory locks in it (flock): "agent.lock" for as long as
// an agent, init or join runs, "ledger.lock" for the moment of a change to
// tokens, waiting hosts or addresses.
//
// Every file starts with one line
//
//	# drawbridge state 1 KIND LENGTH SHA256
//
// followed by the body of LENGTH bytes: PEM, JSON or binary. Tools that read
// PEM skip the line.
//
// It imports the standard library and the dictionaries, and never makes a key,
// checks a certificate, reads the clock for a decision, or logs: repairs are
// told by [Dir.Repairs].
package statedir
