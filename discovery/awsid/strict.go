package awsid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// reader reads JSON of strangers: one value and nothing behind it, names as
// they are spelled and each once. encoding/json's own mapping to structs would
// take other cases and the last of many.
type reader struct{ dec *json.Decoder }

func newReader(b []byte) (reader, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return reader{}, errors.New("not one JSON value")
	}
	return reader{json.NewDecoder(bytes.NewReader(b))}, nil
}

// object reads an object; member must read the value of the name it is given.
func (r reader) object(member func(name string) error) error {
	if t, err := r.dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // within an object every other token is a name
		if seen[name] {
			return fmt.Errorf("%.40q is there twice", name)
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := r.dec.Token()
	return err
}

// text reads a string.
func (r reader) text(into *string) error {
	t, err := r.dec.Token()
	if err != nil {
		return err
	}
	s, ok := t.(string)
	if !ok {
		return errors.New("a value is not a string")
	}
	*into = s
	return nil
}

func unknown(name string) error { return fmt.Errorf("%.40q is unknown here", name) }
