package enroll

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// JoinOptions say what to join as. StateDir, Token and Name are needed.
type JoinOptions struct {
	StateDir string
	Token    *pki.Token
	Name     string
	// Site and Role, if not empty, must be those of the token.
	Site       string
	Role       discovery.Role
	Endpoints  []netip.AddrPort // underlay, where others can dial this host
	ListenPort uint16           // WireGuard, UDP; 0: DefaultPort
	// Conflict reports whether the mesh prefix clashes with this host's
	// network. It is called before anything is sent or written.
	Conflict func(netip.Prefix) error

	dial  dialer           // nil: TCP
	now   func() time.Time // nil: time.Now
	pause time.Duration    // between rounds; 0: one second
}

// Result is who a host is after init or join.
type Result struct {
	Mesh     string
	Domain   string
	Prefix   netip.Prefix
	Name     string
	Site     string
	Role     discovery.Role
	ID       discovery.NodeID
	Addr     netip.Addr    // overlay
	Block    netip.Prefix  // gateways: the addresses it may give
	NotAfter time.Time     // of the certificate
	Pin      [32]byte      // SHA-256 of the root's public key
	Gateway  string        // join: the name of the gateway that answered
	Skew     time.Duration // join: this clock minus the gateway's, about
	Repairs  []string      // what was repaired in the state directory
}

// rounds is how often join goes through all addresses before it gives up.
const rounds = 4

// Join redeems a token and fills the state directory. When the directory
// belongs to a member already, it changes nothing and returns who that is,
// with [ErrAlreadyJoined]. Other refusals are an [*Error].
func Join(ctx context.Context, o JoinOptions) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	dir, err := statedir.Create(o.StateDir)
	if err != nil {
		return Result{}, err
	}
	if dir.Joined() { // also while its agent runs
		return already(dir)
	}
	release, err := dir.Lock()
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = release() }() // the process ends soon, and the lock with it
	if dir.Joined() {
		return already(dir)
	}
	j := joining{JoinOptions: o, dir: dir}
	if err := j.prepare(); err != nil {
		return Result{}, err
	}
	res, err := j.run(ctx)
	if err != nil && j.fresh && j.refused(err) {
		err = errors.Join(err, dir.Abandon())
	}
	res.Repairs = dir.Repairs()
	return res, err
}

func (o *JoinOptions) check() error {
	if o.Token == nil {
		return errors.New("join: no token")
	}
	if err := pki.CheckLabel("name", o.Name); err != nil {
		return err
	}
	if o.Site != "" && o.Site != o.Token.Site {
		return &Error{Code: CodeOtherSite, Text: fmt.Sprintf("the token is for site %q, not %q", o.Token.Site, o.Site), Next: nextStep(CodeOtherSite)}
	}
	if o.Role != "" && o.Role != o.Token.Role {
		return &Error{Code: CodeOtherRole, Text: fmt.Sprintf("the token is for role %q, not %q", o.Token.Role, o.Role), Next: nextStep(CodeOtherRole)}
	}
	if len(o.Endpoints) > maxEndpoints {
		return fmt.Errorf("join: %d endpoints, at most %d", len(o.Endpoints), maxEndpoints)
	}
	if o.dial == nil {
		o.dial = dialTCP
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.pause == 0 {
		o.pause = time.Second
	}
	if o.ListenPort == 0 {
		o.ListenPort = DefaultPort
	}
	return nil
}

// already tells who the directory belongs to.
func already(dir *statedir.Dir) (Result, error) {
	res, err := describe(dir)
	if err != nil {
		return res, fmt.Errorf("%w, but the state directory is damaged: %w", ErrAlreadyJoined, err)
	}
	return res, fmt.Errorf("%w: this host is %s (%s) of mesh %s; to join anew, stop the agent and move %s away", ErrAlreadyJoined, res.Name, res.Addr, res.Mesh, dir.Path())
}

// joining is one run of Join.
type joining struct {
	JoinOptions
	dir   *statedir.Dir
	keys  keys
	fresh bool // keys were made in this run
	kept  bool // keys are on disk
	doubt bool // a question went out, and a gateway may have spent a use on us
}

// prepare takes the keys of an unfinished run, so that the gateway knows us
// again, or makes new ones; those reach the disk just before the question goes out.
func (j *joining) prepare() error {
	if _, err := j.dir.RootKey(); err == nil {
		// An init that did not finish: its mesh has no member. Begin refuses
		// below if that is not what happened.
		if err := j.dir.Abandon(); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	var err error
	j.keys.identity, err = j.dir.IdentityKey()
	if err == nil {
		if j.keys.wireGuard, err = j.dir.WireGuardKey(); err == nil && j.Token.Role == discovery.RoleGateway {
			j.keys.issuer, err = j.dir.IssuerKey()
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// None, or a run that ended between two of them and sent nothing.
		j.fresh = true
		j.keys, err = makeKeys(j.Token.Role)
	case err == nil:
		err = j.dir.Begin() // refuses keys that are not of an unfinished run
		j.kept = true
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// refused reports whether it is certain that no gateway spent a use on us.
func (j *joining) refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && !j.doubt
}

// run tries every address, several times.
func (j *joining) run(ctx context.Context) (Result, error) {
	tried := make([]*Error, len(j.Token.Addrs))
	for round := range rounds {
		for i, addr := range j.Token.Addrs {
			res, err := j.attempt(ctx, addr)
			if err == nil {
				return res, nil
			}
			var bad *Error
			if !errors.As(err, &bad) || bad.Code.final() {
				return Result{}, err
			}
			tried[i] = worse(tried[i], bad)
		}
		if round == rounds-1 || !again(tried) {
			break
		}
		select {
		case <-ctx.Done():
			return Result{}, fmt.Errorf("join: %w; %w", ctx.Err(), summary(tried))
		case <-time.After(j.pause << round):
		}
	}
	return Result{}, summary(tried)
}

// attempt is one try at one address.
func (j *joining) attempt(ctx context.Context, addr string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	g, bad := reach(ctx, j.dial, addr, j.believe, j.now)
	if bad != nil {
		return Result{}, bad
	}
	defer func() { _ = g.conn.Close() }() // the answer is here, or there is none
	mesh, err := pki.MeshOf(g.root)
	if err != nil {
		return Result{}, fake(addr, err)
	}
	if j.Conflict != nil {
		if err := j.Conflict(mesh.Prefix); err != nil {
			return Result{}, &Error{
				Code: CodeClash, Text: fmt.Sprintf("the mesh prefix %s clashes with this host's network", mesh.Prefix), Err: err,
				Next: "nothing was sent; change the host's route, or make the mesh with another --prefix",
			}
		}
	}
	if err := j.keepKeys(); err != nil {
		return Result{}, fmt.Errorf("join: %w", err)
	}
	q, err := j.question()
	if err != nil {
		return Result{}, fmt.Errorf("join: %w", err)
	}
	ans, bad := g.ask(q, j.keys, j.Token)
	if bad == nil || bad.Code == CodeUnreachable || bad.Code == CodeBadAnswer || bad.Code == CodeInternal {
		j.doubt = true
	}
	if bad != nil {
		return Result{}, bad
	}
	m, bad := j.accept(g, ans, mesh)
	if bad != nil {
		return Result{}, bad
	}
	if j.Token.Role == discovery.RoleGateway {
		if _, bad := g.exchange(introduction{Leaf: m.chain[0]}, j.now()); bad != nil {
			return Result{}, bad
		}
	}
	if err := j.write(m); err != nil {
		return Result{}, fmt.Errorf("join: %w", err)
	}
	res, err := describe(j.dir)
	if err != nil {
		return Result{}, fmt.Errorf("join: %w", err)
	}
	res.Gateway, res.Skew = g.id.Name, j.now().Sub(ans.Time).Round(time.Second)
	return res, nil
}

// believe takes the root that the token pins.
func (j *joining) believe(chain [][]byte) ([]byte, string, error) {
	root, err := pki.PinnedRoot(chain, j.Token.Pin)
	return root, j.Token.Mesh, err
}

// keepKeys puts the keys on disk before the question goes out: whoever is
// certified must still have them after a crash.
func (j *joining) keepKeys() error {
	if j.kept {
		return nil
	}
	if err := j.dir.Begin(); err != nil {
		return err
	}
	if err := j.keys.keep(j.dir); err != nil {
		return err
	}
	j.kept = true
	return nil
}

func (j *joining) question() (question, error) {
	pub, err := j.keys.wireGuard.Public()
	if err != nil {
		return question{}, err
	}
	q := question{
		Version: protoVersion, Kind: kindJoin, Time: j.now().UTC(), Token: j.Token.ID,
		Name: j.Name, Site: j.Token.Site, Role: j.Token.Role, Endpoints: j.Endpoints,
		Identity: j.keys.identity.Public().(ed25519.PublicKey), WireGuard: pub[:],
	}
	if j.keys.issuer != nil {
		q.Issuer = j.keys.issuer.Public().(ed25519.PublicKey)
	}
	return q, nil
}
