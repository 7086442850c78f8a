package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// section is one mapping of the file while it is read. Every key that is asked
// for becomes known; done refuses the rest.
type section struct {
	r      *reader
	where  position
	fields map[string]entry
	order  []string
	known  []string
	broken bool // no mapping at all; said already
}

// entry is a key with its value. A value left empty counts as not written.
type entry struct {
	key   position
	value ast.Node
}

// section reads n as a mapping. When it is none, the problem is noted and the
// section is empty.
func (r *reader) section(n ast.Node, what string) *section {
	s := &section{r: r, where: at(n), fields: map[string]entry{}}
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.fail(s.where, "%s must be keys with values, not %s", what, kindOf(n))
		s.broken = true
		return s
	}
	for i, v := range values {
		key, ok := v.Key.(ast.Node).(ast.ScalarNode)
		if !ok {
			r.fail(at(v.Key), "a key must be a plain word")
			continue
		}
		name, where := key.GetToken().Value, at(v.Key)
		if i == 0 {
			s.where = where
		}
		if _, twice := s.fields[name]; twice {
			r.fail(where, "key %q is written twice", name)
			continue
		}
		s.fields[name] = entry{where, v.Value}
		s.order = append(s.order, name)
	}
	return s
}

// take makes key known and returns its value, if one is written.
func (s *section) take(key string) (ast.Node, bool) {
	s.known = append(s.known, key)
	e, ok := s.fields[key]
	if !ok || e.value == nil || e.value.Type() == ast.NullType {
		return nil, false
	}
	return e.value, true
}

// has reports whether a value is written for a key that was asked for.
func (s *section) has(key string) bool {
	e, ok := s.fields[key]
	return ok && e.value != nil && e.value.Type() != ast.NullType
}

// at is where the value of key stands, or else its section.
func (s *section) at(key string) position {
	if s.has(key) {
		return at(s.fields[key].value)
	}
	return s.where
}

// fail notes a problem at the value of key, or else at the section.
func (s *section) fail(key, format string, args ...any) {
	s.r.fail(s.at(key), format, args...)
}

// sub reads the mapping below key; ok is false when none is written.
func (s *section) sub(key string) (sub *section, ok bool) {
	n, ok := s.take(key)
	if !ok {
		return nil, false
	}
	return s.r.section(n, key), true
}

// subs reads the list of mappings below key.
func (s *section) subs(key string) []*section {
	var all []*section
	for _, n := range s.items(key) {
		all = append(all, s.r.section(n, "an entry of "+key))
	}
	return all
}

// items is the list below key.
func (s *section) items(key string) []ast.Node {
	n, ok := s.take(key)
	if !ok {
		return nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.r.fail(at(n), "%s must be a list, not %s", key, kindOf(n))
		return nil
	}
	return seq.Values
}

// require notes keys without a value. They must have been asked for.
func (s *section) require(what string, keys ...string) {
	var missing []string
	for _, k := range keys {
		if !s.has(k) {
			missing = append(missing, k)
		}
	}
	if len(missing) > 0 && !s.broken {
		s.r.fail(s.where, "%s needs %s", what, strings.Join(missing, ", "))
	}
}

// done notes the keys that nobody asked for.
func (s *section) done() {
	known := map[string]bool{}
	for _, k := range s.known {
		known[k] = true
	}
	for _, k := range s.order {
		if !known[k] {
			s.r.fail(s.fields[k].key, "unknown key %q; %s", k, suggestion(k, s.known))
		}
	}
}

// field reads the value of key into place, which keeps its default when none
// is written or the value is refused.
func field[T any](s *section, key string, into *T, read func(word) (T, string)) {
	n, ok := s.take(key)
	if !ok {
		return
	}
	if v, ok := value(s.r, n, key, read); ok {
		*into = v
	}
}

// list reads the values of the list below key.
func list[T any](s *section, key string, into *[]T, read func(word) (T, string)) {
	if _, ok := s.fields[key]; !ok || !s.has(key) {
		s.known = append(s.known, key)
		return
	}
	var all []T
	for _, n := range s.items(key) {
		if v, ok := value(s.r, n, key, read); ok {
			all = append(all, v)
		}
	}
	*into = all
}

func value[T any](r *reader, n ast.Node, key string, read func(word) (T, string)) (T, bool) {
	w, ok := wordOf(n)
	v, want := *new(T), "one value"
	if ok {
		v, want = read(w)
	}
	if want == "" {
		return v, true
	}
	got := kindOf(n)
	if ok {
		got = shown(w)
	}
	r.fail(at(n), "%s: %s, want %s", key, got, want)
	return v, false
}
