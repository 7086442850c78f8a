package enroll

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Bounds of tokens.
const (
	DefaultTTL = time.Hour
	MaxTTL     = 7 * 24 * time.Hour
	maxUses    = 100
	// tokenTrail is how long a token is kept after its end: for its node
	// asking again, and for a person who wonders.
	tokenTrail = 30 * 24 * time.Hour
)

// TokenOptions say what a token is good for. Site is needed.
type TokenOptions struct {
	Site string
	Role discovery.Role // "": server
	TTL  time.Duration  // 0: DefaultTTL; at most MaxTTL
	Uses int            // 0: 1; at most maxUses
	// Addrs are where joining hosts reach this gateway, HOST:PORT; nil: what its
	// agent announced last, or, before it ran, the node's endpoints, with the
	// same port number in TCP.
	Addrs []string

	Names     []string       // globs for the names of its nodes, see path.Match; nil: any
	Sources   []netip.Prefix // networks, underlay, that its nodes come from; nil: any
	Ephemeral bool           // its nodes are collected when they are gone
	Approval  bool           // a person must approve each of its nodes
	// Subnets are the networks that its nodes, servers, may advertise; nil: none.
	Subnets []netip.Prefix
	Replace bool // its nodes may take the names of nodes that are not alive

	now func() time.Time // nil: time.Now
}

func (o *TokenOptions) check() error {
	if o.Role == "" {
		o.Role = discovery.RoleServer
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Uses == 0 {
		o.Uses = 1
	}
	if o.now == nil {
		o.now = time.Now
	}
	if err := pki.CheckLabel("site", o.Site); err != nil {
		return err
	}
	if err := pki.CheckRole(o.Role); err != nil {
		return err
	}
	if o.TTL < time.Minute || o.TTL > MaxTTL {
		return fmt.Errorf("a token's life must be 1m to %s, not %s", MaxTTL, o.TTL)
	}
	if o.Uses < 1 || o.Uses > maxUses {
		return fmt.Errorf("a token's uses must be 1 to %d, not %d", maxUses, o.Uses)
	}
	return o.checkLimits()
}

func (o *TokenOptions) checkLimits() error {
	if len(o.Names) > statedir.MaxTokenNames {
		return fmt.Errorf("%d name patterns, at most %d", len(o.Names), statedir.MaxTokenNames)
	}
	for _, g := range o.Names {
		if _, err := path.Match(g, ""); err != nil || g == "" || len(g) > 128 {
			return fmt.Errorf("name pattern %q: want a glob such as gpu-* or web-[0-9]", printable(g))
		}
	}
	if len(o.Sources) > statedir.MaxTokenSources {
		return fmt.Errorf("%d sources, at most %d", len(o.Sources), statedir.MaxTokenSources)
	}
	for _, p := range o.Sources {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("source %s: want a network such as 198.51.100.0/24", p)
		}
		if p != p.Masked() {
			return fmt.Errorf("source %s: has host bits, did you mean %s?", p, p.Masked())
		}
	}
	return nil
}

// CreateToken makes a token on a gateway and returns its text, which is not
// kept anywhere. It needs the state directory only, whether or not the agent
// runs. There is no token without its event in the history.
func CreateToken(stateDir string, o TokenOptions) (string, error) {
	if err := o.check(); err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	dir, err := statedir.Open(stateDir)
	if err != nil {
		return "", err
	}
	tok, err := newTokenFor(dir, o)
	if err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	if o.Subnets, err = subnetsFor(dir, o); err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	err = dir.Update(func() error {
		if err := prune(dir, o.now()); err != nil {
			return err
		}
		err := dir.SetToken(statedir.Token{
			ID: tok.ID, Public: tok.Public(), Site: tok.Site, Role: tok.Role,
			Created: o.now().UTC(), Expires: tok.Expires, Uses: o.Uses,
			Names: o.Names, Sources: o.Sources, Ephemeral: o.Ephemeral, Approval: o.Approval, Replace: o.Replace,
			Subnets: o.Subnets,
		})
		if err != nil {
			return err
		}
		e := history.Event{Kind: eventTokenCreated, Subject: tok.ID, Actor: history.Person(), Detail: o.describe(tok)}
		if err := history.Append(dir.Path(), e); err != nil {
			return errors.Join(err, dir.RemoveToken(tok.ID))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	return tok.Encode(), nil
}

// newTokenFor refuses tokens that this gateway could not honour.
func newTokenFor(dir *statedir.Dir, o TokenOptions) (*pki.Token, error) {
	n, err := dir.Node()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s belongs to no mesh; run `drawbridge init` first", dir.Path())
	}
	if err != nil {
		return nil, err
	}
	if n.Role != discovery.RoleGateway {
		return nil, fmt.Errorf("this host is a %s; create tokens on a gateway", n.Role)
	}
	if _, err := signer(dir.Issuer, dir.IssuerKey); err != nil {
		return nil, &Error{Code: CodeNoIssuer, Text: "this gateway has no usable issuing certificate", Err: err, Next: nextStep(CodeNoIssuer)}
	}
	if doors, err := dir.Doors(); o.Addrs == nil && err == nil {
		for _, d := range doors {
			o.Addrs = append(o.Addrs, d.String())
		}
	}
	if o.Addrs == nil {
		for _, e := range n.Endpoints {
			o.Addrs = append(o.Addrs, e.String())
		}
	}
	if len(o.Addrs) == 0 {
		return nil, errors.New("this gateway has no known endpoint; say where new hosts can reach it with --addr HOST:PORT")
	}
	t, err := trustOf(dir, nil)
	if err != nil {
		return nil, err
	}
	pin, err := pki.Pin(t.roll.Roots().Certs()[0])
	if err != nil {
		return nil, err
	}
	return pki.NewToken(pki.Token{Mesh: n.Mesh, Addrs: o.Addrs, Pin: pin, Site: o.Site, Role: o.Role, Expires: o.now().Add(o.TTL)})
}

// subnetsFor are the subnets of a token, sorted, if they can be in this mesh.
func subnetsFor(dir *statedir.Dir, o TokenOptions) ([]netip.Prefix, error) {
	if len(o.Subnets) == 0 {
		return nil, nil
	}
	if o.Role != discovery.RoleServer {
		return nil, errors.New("a gateway advertises no subnets")
	}
	n, err := dir.Node()
	if err != nil {
		return nil, err
	}
	return checkSubnets(n.Prefix, o.Subnets)
}

// describe is what the history says of a token.
func (o TokenOptions) describe(tok *pki.Token) map[string]string {
	d := map[string]string{
		"site": tok.Site, "role": string(tok.Role), "expires": tok.Expires.UTC().Format(time.RFC3339), "uses": strconv.Itoa(o.Uses),
	}
	if len(o.Names) > 0 {
		d["names"] = strings.Join(o.Names, " ")
	}
	if len(o.Sources) > 0 {
		d["sources"] = prefixText(o.Sources)
	}
	if len(o.Subnets) > 0 {
		d["subnets"] = prefixText(o.Subnets)
	}
	for what, yes := range map[string]bool{"ephemeral": o.Ephemeral, "approval": o.Approval, "replace": o.Replace} {
		if yes {
			d[what] = "yes"
		}
	}
	return d
}

// prune forgets tokens that ended long ago, and who waited with one. Damaged
// ones stay, for a person.
func prune(dir *statedir.Dir, now time.Time) error {
	if err := prunePending(dir, now); err != nil {
		return err
	}
	tokens, _ := dir.Tokens()
	for _, t := range tokens {
		if now.Sub(t.Expires) > tokenTrail {
			if err := dir.RemoveToken(t.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
