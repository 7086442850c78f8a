package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// MaxPending bounds the hosts that wait at one gateway.
const MaxPending = 256

// Pending is a host that asked to join and waits: for a person's approval, or
// for the root key's grant. It reserves one use of its token until it is
// forgotten, also when it was refused.
type Pending struct {
	Version   int              `json:"version"`
	Node      discovery.NodeID `json:"node"`
	Token     string           `json:"token,omitempty"`  // empty: by its AWS identity
	Caller    string           `json:"caller,omitempty"` // the AWS identity
	Name      string           `json:"name"`
	Site      string           `json:"site"`
	Role      discovery.Role   `json:"role"`
	From      netip.Addr       `json:"from,omitzero"` // underlay
	WireGuard []byte           `json:"wireguard"`
	Issuer    []byte           `json:"issuer,omitempty"` // gateways: the issuing key, public
	Since     time.Time        `json:"since"`
	Until     time.Time        `json:"until"` // forgotten then
	Approval  bool             `json:"approval,omitempty"`
	Verdict   Verdict          `json:"verdict,omitempty"`
	By        string           `json:"by,omitempty"` // who decided
	Decided   time.Time        `json:"decided,omitzero"`
	Grant     string           `json:"grant,omitempty"`   // gateways: what the root key signed
	Subnets   []netip.Prefix   `json:"subnets,omitempty"` // that it may advertise
}

// Verdict is what a person said to a waiting host.
type Verdict string

// The verdicts; empty while nobody said anything.
const (
	Approved Verdict = "approved"
	Refused  Verdict = "refused"
)

const pendingVersion = 1

var (
	pendingID = regexp.MustCompile(`^[0-9a-f]{32}-([0-9a-f]{8,64}|aws)$`)
	// ErrManyPending refuses a host because too many wait here.
	ErrManyPending = errors.New("too many hosts wait")
)

// file is the name of the request's file: a host may wait with several tokens.
func (p Pending) file() (string, error) {
	return pendingFile(p.Node, p.Token)
}

func pendingFile(node discovery.NodeID, token string) (string, error) {
	if token == "" {
		token = "aws"
	}
	id := string(node) + "-" + token
	if !pendingID.MatchString(id) {
		return "", fmt.Errorf("waiting host: malformed id: %w", fs.ErrNotExist)
	}
	return filepath.Join(dirPending, id+".json"), nil
}

// PendingOf reads the request of a host with a token, or with its AWS identity
// if token is empty; a missing one matches [fs.ErrNotExist].
func (d *Dir) PendingOf(node discovery.NodeID, token string) (Pending, error) {
	name, err := pendingFile(node, token)
	if err != nil {
		return Pending{}, err
	}
	return d.pending(name)
}

func (d *Dir) pending(name string) (Pending, error) {
	var p Pending
	if err := d.readJSON(name, &p); err != nil {
		return Pending{}, err
	}
	if p.Version != pendingVersion {
		return Pending{}, fmt.Errorf("read %s/%s: %w: version %d, want %d", d.path, name, ErrVersion, p.Version, pendingVersion)
	}
	if at, err := p.file(); err != nil || at != name {
		return Pending{}, d.damaged(name, errors.New("the id inside is another"))
	}
	if len(p.WireGuard) != 32 || p.Issuer != nil && len(p.Issuer) != 32 {
		return Pending{}, d.damaged(name, errors.New("malformed keys"))
	}
	return p, nil
}

// SetPending keeps a request. Version is filled in. A new one beyond the bound
// is refused with [ErrManyPending]. Call it within [Dir.Update].
func (d *Dir) SetPending(p Pending) error {
	name, err := p.file()
	if err != nil {
		return fmt.Errorf("write %w", err)
	}
	if len(p.WireGuard) != 32 || p.Issuer != nil && len(p.Issuer) != 32 {
		return errors.New("write waiting host: malformed keys")
	}
	if !d.exists(name) {
		names, err := d.pendingNames()
		if err != nil {
			return err
		}
		if len(names) >= MaxPending {
			return fmt.Errorf("write waiting host: %w: %d", ErrManyPending, len(names))
		}
	}
	if err := os.MkdirAll(filepath.Join(d.path, dirPending), dirMode); err != nil {
		return fmt.Errorf("write waiting host: %w", err)
	}
	p.Version = pendingVersion
	return d.writeJSON(name, p)
}

// RemovePending forgets a request; a missing one is fine.
func (d *Dir) RemovePending(node discovery.NodeID, token string) error {
	name, err := pendingFile(node, token)
	if err != nil {
		return nil //nolint:nilerr // no such file can be there
	}
	return d.remove(name)
}

// ListPending reads all requests, oldest first. Damaged ones are left out and
// told in the error, which does not make the others less good.
func (d *Dir) ListPending() ([]Pending, error) {
	names, err := d.pendingNames()
	if err != nil {
		return nil, err
	}
	var list []Pending
	var errs []error
	for _, name := range names {
		p, err := d.pending(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Pending) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		if c := strings.Compare(string(a.Node), string(b.Node)); c != 0 {
			return c
		}
		return strings.Compare(a.Token, b.Token)
	})
	return list, errors.Join(errs...)
}

// Reserved are the hosts whose requests, damaged ones too, hold a use of the
// token; sorted.
func (d *Dir) Reserved(token string) ([]discovery.NodeID, error) {
	names, err := d.pendingNames()
	if err != nil {
		return nil, err
	}
	var nodes []discovery.NodeID
	for _, name := range names {
		id := strings.TrimSuffix(filepath.Base(name), ".json")
		if node, of, _ := strings.Cut(id, "-"); of == token {
			nodes = append(nodes, discovery.NodeID(node))
		}
	}
	return nodes, nil
}

// pendingNames are the files of all requests, damaged ones too.
func (d *Dir) pendingNames() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, dirPending))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read waiting hosts: %w", err)
	}
	var names []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && pendingID.MatchString(id) {
			names = append(names, filepath.Join(dirPending, e.Name()))
		}
	}
	return names, nil
}
