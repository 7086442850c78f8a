package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
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
	Version   int            `json:"version"`
	ID        string         `json:"id"`     // lower-case hex
	Public    []byte         `json:"public"` // Ed25519; the secret half is in the token only
	Site      string         `json:"site"`
	Role      discovery.Role `json:"role"`
	Created   time.Time      `json:"created"`
	Expires   time.Time      `json:"expires"`
	Uses      int            `json:"uses"`                // how many nodes may join with it
	Names     []string       `json:"names,omitempty"`     // globs, see path.Match; none: any name
	Sources   []netip.Prefix `json:"sources,omitempty"`   // underlay, where the joiner's connection comes from; none: anywhere
	Ephemeral bool           `json:"ephemeral,omitempty"` // its nodes go when they are gone
	Approval  bool           `json:"approval,omitempty"`  // a person must approve each node
	Replace   bool           `json:"replace,omitempty"`   // may take the name of a node that is not alive
	Subnets   []netip.Prefix `json:"subnets,omitempty"`   // that its nodes may advertise
	Revoked   bool           `json:"revoked"`
	Redeemed  []Redemption   `json:"redeemed"`
}

// Redemption is one use of a token, with what was answered, so that the same
// node asking again gets the same answer.
type Redemption struct {
	Node   discovery.NodeID `json:"node"`
	Name   string           `json:"name"`
	At     time.Time        `json:"at"`
	Leaf   []byte           `json:"leaf,omitempty"`   // servers: the node certificate
	Above  []byte           `json:"above,omitempty"`  // servers: what the leaf is signed with; missing in version 1
	Issuer []byte           `json:"issuer,omitempty"` // gateways: the issuing certificate
	// Renewer is a gateway's certificate to renew any node; missing in version 1.
	Renewer []byte `json:"renewer,omitempty"`
}

// tokenVersion is written; 1, without limits of name and source, is read too.
const tokenVersion = 2

// Bounds of a token's limits.
const (
	MaxTokenNames   = 8
	MaxTokenSources = 16
	maxSubnets      = 16
)

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
	case t.Version < 1 || t.Version > tokenVersion:
		return Token{}, fmt.Errorf("read %s/%s: %w: version %d, want at most %d", d.path, name, ErrVersion, t.Version, tokenVersion)
	case t.ID != id:
		return Token{}, d.damaged(name, errors.New("the id inside is another"))
	}
	if err := t.check(); err != nil {
		return Token{}, d.damaged(name, err)
	}
	return t, nil
}

// SetToken keeps a token. Version is filled in. Call it within [Dir.Update].
func (d *Dir) SetToken(t Token) error {
	if !tokenID.MatchString(t.ID) {
		return errors.New("write token: malformed id")
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(d.path, dirTokens), dirMode); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	t.Version = tokenVersion
	return d.writeJSON(filepath.Join(dirTokens, t.ID+".json"), t)
}

// check holds what everybody who reads a token relies on: a limit that cannot
// be read must not be no limit.
func (t Token) check() error {
	switch {
	case len(t.Public) != 32:
		return errors.New("no public key")
	case t.Uses < 0 || len(t.Redeemed) > max(t.Uses, 0):
		return fmt.Errorf("%d nodes joined with a token for %d", len(t.Redeemed), t.Uses)
	case len(t.Names) > MaxTokenNames || len(t.Sources) > MaxTokenSources:
		return fmt.Errorf("%d names and %d sources, at most %d and %d", len(t.Names), len(t.Sources), MaxTokenNames, MaxTokenSources)
	}
	for _, g := range t.Names {
		if _, err := path.Match(g, ""); err != nil || g == "" {
			return fmt.Errorf("name pattern %q: %w", g, path.ErrBadPattern)
		}
	}
	for _, p := range t.Sources {
		if !p.IsValid() || p != p.Masked() {
			return fmt.Errorf("source %s is not a masked prefix", p)
		}
	}
	return checkSubnets(t.Subnets)
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

// checkSubnets holds what can be told of subnets without knowing the mesh.
func checkSubnets(list []netip.Prefix) error {
	if len(list) > maxSubnets {
		return fmt.Errorf("%d subnets, at most %d", len(list), maxSubnets)
	}
	for _, p := range list {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() || p.Bits() < 8 {
			return fmt.Errorf("subnet %s is not a masked IPv4 prefix", p)
		}
	}
	return nil
}
