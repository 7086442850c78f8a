// Package config reads the agent's configuration: strict YAML in, checked and
// typed [Settings] out.
//
// It promises: an unknown key, a wrong type or a value out of bounds is an
// error with file, line and column and, for people, what would be right; all
// problems are reported, not the first; what is not written has its default;
// a value that comes out has been checked, so nobody checks it again.
// reference.yaml shows every key, and [Settings.Show] prints a file that reads
// as the same settings.
//
// It owns nothing outside the process. [Load] reads one file.
//
// It may import drawbridge/tunnel and drawbridge/discovery, the standard
// library and github.com/goccy/go-yaml (for positions).
//
// It never reads the environment, never resolves a name, never checks that a
// thing exists outside the file, and expands no anchors, aliases, tags or
// merge keys: the cleverness of YAML is refused before it is parsed.
package config
