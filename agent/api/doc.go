// Package api is the desk of the agent: it tells whoever asks over a local
// socket what the agent knows, holds true, wants and last did.
//
// It promises: every answer is one JSON object with a schema_version, made from
// one snapshot and one plan of the same moment; durations are seconds, times
// RFC 3339 in UTC, what is not known is null, and a list is never null. A
// socket whose owner died is taken over, a living one is refused.
//
// It owns one unix socket, mode 0660, and the directory above it if it had to
// be made.
//
// It imports the dictionaries, the nouns of the brain and of the hands'
// outcomes, and the standard library.
//
// The API has no hands: there is no request that changes anything. It never
// keeps a fact of its own, except the bounded [Journal] that the house fills.
package api
