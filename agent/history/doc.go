// Package history keeps the audit journal of a node: what happened to tokens,
// certificates, keys and members, when, why, and who did it.
//
// It promises that an event that was appended without an error is on the disk;
// that a crash at any moment costs at most the event that was being written;
// that the journal never outgrows 32 MiB (the oldest events go first); that
// several goroutines and processes, the command line beside the agent, may
// append at the same time; and that a line changed or removed in the middle
// shows, see [Check]: every line carries a hash of the one before it. The hash
// is no signature: whoever may write the files can write them all anew, and
// the newest lines can be cut away unseen.
//
// It owns outside the process: the folder history/ of the state directory
// (0700) with
//
//	events-NNNNNNNN.jsonl  segments of at most 4 MiB, at most 8, numbered upwards (0600)
//	lock                   advisory lock (flock) for the moment of an append (0600)
//
// A segment holds one JSON object per line, at most 4 KiB, see [Event].
//
// [Append] waits for the disk; a loop that must not gives its events to a [Log].
//
// It imports the standard library only. It never takes part in a decision,
// never logs, and writes no string that looks like a token or a private key.
package history
