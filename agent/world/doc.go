// Package world owns every fact the brain may use.
//
// It promises: ears write one kind of fact each, whole; a reader gets an
// immutable, numbered [decide.Snapshot] in which lists are sorted and nothing
// points into a living room; a fact that fails to be read keeps its last good
// value and says since when.
//
// It owns nothing outside the process. It imports the dictionaries and the
// brain's nouns, never an ear or a hand, and starts no goroutine: its facts sit
// behind one lock that no I/O ever happens under, and whoever waits for news
// reads [World.Fresh].
package world
