package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// Token is what a gateway keeps of an enrolment token: the public half. Who
// steals it cannot redeem it.
type Token struct {
	Version  int            `json:"version"`
	ID       string         `json:"id"`     // lower-case hex
	Public   []byte         `json:"public"` // Ed25519; the secret half is in the token only
	Site     string         `json:"site"`
	Role     discovery.Role `json:"role"`
	Created  time.Time      `json:"created"`
	Expires  time.Time      `json:"expires"`
	Uses     int            `json:"uses"` // how many nodes may join with it
	Revoked  bool           `json:"revoked"`
	Redeemed []Redemption   `json:"redeemed"`
}

// Redemption is one use of a token, with what was answered, so that the same
// node asking again gets the same answer.
type Redemption struct {
	Node   discovery.NodeID `json:"node"`
	Name   string           `json:"name"`
	At     time.Time        `json:"at"`
	Leaf   []byte           `json:"leaf,omitempty"`   // servers: the node certificate
	Issuer []byte           `json:"issuer,omitempty"` // gateways: the issuing certificate
}

const tokenVersion = 1

var tokenID = regexp.MustCompile(`^[0-9a-f]{8,64}$`)

// Token reads one token; a missing one matches [fs.ErrNotExist].
func (d *Dir) Token(id string) (Token, error) {
	if !tokenID.MatchString(id) {
		return Token{}, fmt.Errorf("read token: malformed id: %w", fs.ErrNotExist)
	}
	name := filepath.Join(dirTokens, id+".json")
	var t Token
	if err := d.readJSON(name, &t); err != nil {
		return Token{}, err
	}
	switch {
	case t.Version != tokenVersion:
		return Token{}, fmt.Errorf("read %s/%s: %w: version %d, want %d", d.path, name, ErrVersion, t.Version, tokenVersion)
	case t.ID != id:
		return Token{}, d.damaged(name, errors.New("the id inside is another"))
	case len(t.Public) != 32:
		return Token{}, d.damaged(name, errors.New("no public key"))
	}
	return t, nil
}

// SetToken keeps a token. Version is filled in. Call it within [Dir.Update].
func (d *Dir) SetToken(t Token) error {
	if !tokenID.MatchString(t.ID) || len(t.Public) != 32 {
		return errors.New("write token: malformed id or key")
	}
	if err := os.MkdirAll(filepath.Join(d.path, dirTokens), dirMode); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	t.Version = tokenVersion
	return d.writeJSON(filepath.Join(dirTokens, t.ID+".json"), t)
}

// RemoveToken forgets a token; a missing one is fine.
func (d *Dir) RemoveToken(id string) error {
	if !tokenID.MatchString(id) {
		return nil
	}
	return d.remove(filepath.Join(dirTokens, id+".json"))
}

// Tokens reads all tokens, oldest first. Damaged ones are left out and told in
// the error, which does not make the others less good.
func (d *Dir) Tokens() ([]Token, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, dirTokens))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	var tokens []Token
	var errs []error
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !tokenID.MatchString(id) {
			continue
		}
		t, err := d.Token(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tokens = append(tokens, t)
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens, errors.Join(errs...)
}
