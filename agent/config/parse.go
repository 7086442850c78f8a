package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. They are far beyond any sane configuration and keep a
// broken one from costing memory or stack.
const (
	maxBytes  = 1 << 20
	maxTokens = 100_000
	maxDepth  = 16 // of brackets, of dashes in a line, of keys in a line
	maxColumn = 400
)

// Parse reads and checks a configuration; name is what errors call the file. An
// error about the contents is an [*Error]. Settings are only valid without one.
func Parse(name string, r io.Reader) (Settings, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return Settings{}, fmt.Errorf("read %s: %w", name, err)
	}
	rd := &reader{file: name}
	if root, ok := rd.document(b); ok {
		s := settings(rd, root)
		if err := rd.err(); err == nil {
			return s, nil
		}
	}
	return Settings{}, rd.err()
}

// Load reads and checks the file at path.
func Load(path string) (Settings, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Settings{}, fmt.Errorf("open configuration: %w; check the name, or leave it out to run with the defaults", err)
	case errors.Is(err, fs.ErrPermission):
		return Settings{}, fmt.Errorf("open configuration: %w; let this user read it, or run as its owner", err)
	case err != nil:
		return Settings{}, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return Settings{}, fmt.Errorf("open configuration %s: a directory; name the file in it", path)
	}
	return Parse(path, f)
}

// document is the one document of the file. ok is false when it is none, and
// the problem is noted.
func (r *reader) document(b []byte) (ast.Node, bool) {
	if len(b) > maxBytes {
		r.fail(position{}, "larger than %d bytes", maxBytes)
		return nil, false
	}
	tokens := lexer.Tokenize(string(b))
	if !r.plain(tokens) {
		return nil, false
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		r.fail(positionOf(err), "%s", messageOf(err))
		return nil, false
	}
	var root ast.Node
	for _, d := range file.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if root != nil {
			r.fail(at(d.Body), "a second document; a configuration is one")
			return nil, false
		}
		root = d.Body
	}
	if root == nil {
		r.fail(position{}, "empty; a configuration begins with \"version: 1\"")
		return nil, false
	}
	return root, true
}

// plain refuses, before anything is parsed recursively, what no configuration
// needs: references, tags, directives, and nesting beyond reason.
func (r *reader) plain(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		r.fail(position{}, "more than %d words", maxTokens)
		return false
	}
	depth, line, inLine := 0, 0, 0
	for _, t := range tokens {
		p := position{t.Position.Line, t.Position.Column}
		if p.line != line {
			line, inLine = p.line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			r.fail(p, "anchors and aliases are not supported; write the value out")
			return false
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			r.fail(p, "%q is not supported here; use plain keys and values", t.Value)
			return false
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType, token.MappingValueType:
			if depth <= 0 {
				inLine++
			}
		}
		if depth > maxDepth || inLine > maxDepth || p.col > maxColumn && depth <= 0 && t.Type == token.MappingValueType {
			r.fail(p, "nested too deeply")
			return false
		}
	}
	return true
}

// at is where a node begins.
func at(n ast.Node) position {
	if n == nil {
		return position{}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{}
}

func positionOf(err error) position {
	var y yaml.Error
	if errors.As(err, &y) {
		if t := y.GetToken(); t != nil && t.Position != nil {
			return position{t.Position.Line, t.Position.Column}
		}
	}
	return position{}
}

func messageOf(err error) string {
	var y yaml.Error
	if errors.As(err, &y) {
		return y.GetMessage()
	}
	return err.Error()
}
