package enroll

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// DefaultPatience is how long Join waits for a person's approval.
const DefaultPatience = 10 * time.Minute

// JoinOptions say what to join as. StateDir and Name are needed, and Token or,
// to join by an AWS identity, Gateways, Pin and Prove.
type JoinOptions struct {
	StateDir string
	Token    *pki.Token
	Name     string
	// Site and Role, if not empty, must be those of the token or rule. Without
	// a token the role is server unless it says otherwise.
	Site       string
	Role       discovery.Role
	Endpoints  []netip.AddrPort // underlay, where others can dial this host
	ListenPort uint16           // WireGuard, UDP; 0: DefaultPort

	Gateways []string // HOST:PORT
	Pin      [32]byte // of the mesh root, see pki.Pin
	// Prove lets AWS confirm the challenge, see [Options.AWS].
	Prove func(ctx context.Context, challenge []byte) ([]byte, error)

	// Conflict reports whether the mesh prefix clashes with this host's
	// network. It is called before anything is sent or written.
	Conflict func(netip.Prefix) error
	// Waiting is told once that a person must approve this host, or carry its
	// request to the root key, and the fingerprint to compare.
	Waiting  func(fingerprint string)
	Patience time.Duration // how long to wait for that; 0: DefaultPatience

	// Dial makes the TCP connection to a gateway at HOST:PORT. Nil: from any
	// address of this host.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	dial  dialer                               // nil: TCP
	now   func() time.Time                     // nil: time.Now
	pause time.Duration                        // between rounds; 0: one second
	open  func(string) (*statedir.Dir, error)  // nil: statedir.Create
	rest  func(context.Context, time.Duration) // nil: a timer
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

// Join redeems a token, or proves an AWS identity, and fills the state
// directory. When the directory belongs to a member already, it changes nothing
// and returns who that is, with [ErrAlreadyJoined]. Other refusals are an
// [*Error].
func Join(ctx context.Context, o JoinOptions) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	dir, err := o.open(o.StateDir)
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
	if err := o.checkWay(); err != nil {
		return err
	}
	if err := pki.CheckLabel("name", o.Name); err != nil {
		return err
	}
	if len(o.Endpoints) > maxEndpoints {
		return fmt.Errorf("join: %d endpoints, at most %d", len(o.Endpoints), maxEndpoints)
	}
	if o.Patience < 0 {
		return fmt.Errorf("join: a patience of %s", o.Patience)
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.dial == nil {
		o.dial = o.Dial
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
	if o.open == nil {
		o.open = statedir.Create
	}
	if o.rest == nil {
		o.rest = rest
	}
	if o.ListenPort == 0 {
		o.ListenPort = DefaultPort
	}
	return nil
}

// checkWay checks by what the host wants to join.
func (o *JoinOptions) checkWay() error {
	if o.Token == nil {
		return o.checkAWS()
	}
	if o.Prove != nil || o.Gateways != nil {
		return errors.New("join: with a token or by an AWS identity, not both")
	}
	if o.Site != "" && o.Site != o.Token.Site {
		return &Error{Code: CodeOtherSite, Text: fmt.Sprintf("the token is for site %q, not %q", o.Token.Site, o.Site), Next: nextStep(CodeOtherSite)}
	}
	if o.Role != "" && o.Role != o.Token.Role {
		return &Error{Code: CodeOtherRole, Text: fmt.Sprintf("the token is for role %q, not %q", o.Token.Role, o.Role), Next: nextStep(CodeOtherRole)}
	}
	o.Site, o.Role, o.Gateways, o.Pin = o.Token.Site, o.Token.Role, o.Token.Addrs, o.Token.Pin
	return nil
}

func (o *JoinOptions) checkAWS() error {
	switch {
	case o.Prove == nil:
		return errors.New("join: no token, and no AWS identity")
	case len(o.Gateways) == 0 || len(o.Gateways) > maxGateways:
		return fmt.Errorf("join: %d gateways, want 1 to %d", len(o.Gateways), maxGateways)
	case o.Pin == [32]byte{}:
		return errors.New("join: no pin of the mesh root")
	}
	for _, addr := range o.Gateways {
		if err := pki.CheckHostPort(addr); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	if o.Role == "" {
		o.Role = discovery.RoleServer
	}
	return pki.CheckRole(o.Role)
}

// already tells who the directory belongs to.
func already(dir *statedir.Dir) (Result, error) {
	res, err := describe(dir)
	if err != nil {
		return res, fmt.Errorf("%w, but the state directory is damaged: %w", ErrAlreadyJoined, err)
	}
	return res, fmt.Errorf("%w: this host is %s (%s) of mesh %s; to join anew, stop the agent and move %s away", ErrAlreadyJoined, res.Name, res.Addr, res.Mesh, dir.Path())
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// id is the node id of the keys.
func (k keys) id() discovery.NodeID {
	return pki.NodeID(k.identity.Public().(ed25519.PublicKey))
}
