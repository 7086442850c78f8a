package enroll

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// DefaultPrefix is the mesh prefix unless the operator knows better: RFC 1918,
// since 100.64.0.0/10 is used by carriers, clouds and other overlays.
var DefaultPrefix = netip.MustParsePrefix("10.86.0.0/16")

// InitOptions say what mesh to make. StateDir, Mesh, Site and Name are needed.
type InitOptions struct {
	StateDir   string
	Mesh       string
	Site       string           // of the first gateway
	Name       string           // of the first gateway
	Prefix     netip.Prefix     // zero: DefaultPrefix
	Domain     string           // "": MESH.mesh
	ListenPort uint16           // WireGuard, UDP; 0: DefaultPort
	Endpoints  []netip.AddrPort // underlay, where others can dial this host
	// Conflict reports whether the mesh prefix clashes with this host's
	// network. It is called before anything is written.
	Conflict func(netip.Prefix) error

	now func() time.Time // nil: time.Now
}

func (o *InitOptions) check() error {
	if o.Prefix == (netip.Prefix{}) {
		o.Prefix = DefaultPrefix
	}
	if o.Domain == "" {
		o.Domain = o.Mesh + ".mesh"
	}
	if o.ListenPort == 0 {
		o.ListenPort = DefaultPort
	}
	if o.now == nil {
		o.now = time.Now
	}
	for _, err := range []error{
		pki.CheckLabel("mesh name", o.Mesh), pki.CheckLabel("site", o.Site), pki.CheckLabel("name", o.Name),
		pki.CheckDomain(o.Domain), pki.CheckPrefix(o.Prefix),
	} {
		if err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	if len(o.Endpoints) > maxEndpoints {
		return fmt.Errorf("init: %d endpoints, at most %d", len(o.Endpoints), maxEndpoints)
	}
	return nil
}

// Init makes a mesh, with this host as its first gateway and holder of the
// root key. It refuses a state directory that is in use.
func Init(o InitOptions) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	if o.Conflict != nil {
		if err := o.Conflict(o.Prefix); err != nil {
			return Result{}, &Error{
				Code: CodeClash, Text: fmt.Sprintf("the mesh prefix %s clashes with this host's network", o.Prefix), Err: err,
				Next: "choose another with --prefix; nothing was written",
			}
		}
	}
	dir, err := statedir.Create(o.StateDir)
	if err != nil {
		return Result{}, err
	}
	release, err := dir.Lock()
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = release() }() // the process ends soon, and the lock with it
	// Abandon clears what an init or join left that did not finish, and only that.
	if err := errors.Join(dir.Abandon(), dir.Begin()); err != nil {
		return Result{}, fmt.Errorf("init: %w", err)
	}
	if err := makeMesh(dir, o); err != nil {
		return Result{}, fmt.Errorf("init: %w", err)
	}
	res, err := describe(dir)
	res.Repairs = dir.Repairs()
	return res, err
}

// makeMesh makes and writes everything; the node file comes last. A crash
// before that leaves a mesh nobody has joined, made anew by the next init.
func makeMesh(dir *statedir.Dir, o InitOptions) error {
	now := o.now()
	rootCert, rootKey, err := pki.NewRoot(pki.Mesh{Name: o.Mesh, Domain: o.Domain, Prefix: o.Prefix}, now)
	if err != nil {
		return err
	}
	root, err := pki.NewSigner(rootCert, rootKey)
	if err != nil {
		return err
	}
	k, err := makeKeys(discovery.RoleGateway)
	if err != nil {
		return err
	}
	block, _ := pki.Block(o.Prefix, 0) // the prefix was checked
	issuerCert, err := pki.NewIssuer(root, k.issuer.Public().(ed25519.PublicKey), o.Name, block, now)
	if err != nil {
		return err
	}
	issuer, err := pki.NewSigner(issuerCert, k.issuer)
	if err != nil {
		return err
	}
	leaf, err := issueSelf(issuer, block, o.Name, o.Site, k, now)
	if err != nil {
		return err
	}
	id := discovery.Identity{ID: pki.NodeID(k.identity.Public().(ed25519.PublicKey)), Name: o.Name, Site: o.Site, NotAfter: now.Add(pki.NodeLife)}
	ledger := newLedger(id, block, now)
	ledger.Blocks = []statedir.Grant{{Block: block, Node: id.ID, Name: o.Name, Since: now.UTC()}}
	for _, step := range []func() error{
		func() error { return k.keep(dir) },
		func() error { return dir.SetRootKey(rootKey) },
		func() error { return dir.SetRoots([][]byte{rootCert}) },
		func() error { return dir.SetIssuer(issuerCert) },
		func() error { return dir.SetChain([][]byte{leaf, issuerCert}) },
		func() error { return dir.SetAllocations(ledger) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return dir.Commit(statedir.Node{
		Mesh: o.Mesh, Prefix: o.Prefix, Domain: o.Domain, ListenPort: o.ListenPort,
		Endpoints: o.Endpoints, Site: o.Site, Role: discovery.RoleGateway, Name: o.Name,
	})
}

// issueSelf makes a gateway's node certificate with its own issuer.
func issueSelf(issuer *pki.Signer, block netip.Prefix, name, site string, k keys, now time.Time) ([]byte, error) {
	wg, err := k.wireGuard.Public()
	if err != nil {
		return nil, err
	}
	return pki.IssueNode(issuer, pki.Claims{
		Name: name, Site: site, Role: discovery.RoleGateway, Addr: pki.FirstAddr(block),
		Identity: k.identity.Public().(ed25519.PublicKey), WireGuard: wg,
	}, now)
}

// newLedger is a gateway's ledger with its own address in it.
func newLedger(id discovery.Identity, block netip.Prefix, now time.Time) statedir.Allocations {
	return statedir.Allocations{Block: block, Addrs: []statedir.Allocation{{
		Addr: pki.FirstAddr(block), Node: id.ID, Name: id.Name, Site: id.Site, Role: discovery.RoleGateway,
		Since: now.UTC(), NotAfter: id.NotAfter.UTC(),
	}}}
}

// describe reads who a state directory belongs to.
func describe(dir *statedir.Dir) (Result, error) {
	n, err := dir.Node()
	if err != nil {
		return Result{}, err
	}
	roots, err := dir.Roots()
	if err != nil {
		return Result{}, err
	}
	pinned, err := pki.NewRoots(roots...)
	if err != nil {
		return Result{}, err
	}
	chain, err := dir.Chain()
	if err != nil {
		return Result{}, err
	}
	// The time is not the question here: an expired member is a member.
	id, _, err := pki.Verify(chain, pinned, n.Mesh, time.Unix(0, 0))
	if id.ID == "" {
		return Result{}, err
	}
	res := Result{
		Mesh: n.Mesh, Domain: n.Domain, Prefix: n.Prefix, Name: id.Name, Site: id.Site, Role: id.Role,
		ID: id.ID, Addr: id.Addr, NotAfter: id.NotAfter,
	}
	if res.Pin, err = pki.Pin(roots[0]); err != nil {
		return Result{}, err
	}
	if id.Role == discovery.RoleGateway {
		res.Block, err = pki.BlockOf(chain[1])
	}
	return res, err
}
