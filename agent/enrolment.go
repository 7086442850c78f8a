package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
	"drawbridge/discovery/awsid"
	"drawbridge/tunnel"
)

// enrolment listens for joiners, on the TCP port with the number of the tunnel's
// UDP port. A gateway without an issuing certificate cannot enrol: nil.
func (a *Agent) enrolment(ctx context.Context) (task, error) {
	if _, err := a.dir.IssuerKey(); err != nil {
		a.log.Warn("this gateway has no issuing certificate: hosts join through the others", "err", err)
		return nil, nil
	}
	a.checkLedger()
	a.server = enroll.NewServer(a.enrolmentOptions())
	lns, err := a.listenTCP(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.keepDoors(); err != nil {
		a.log.Warn("own addresses not written: new tokens may name others", "err", err)
	}
	return named{a.server.String(), func(ctx context.Context) error { return serveAll(ctx, a.server, lns) }}, nil
}

// keepDoors leaves a note for `token create`, unless the state directory says
// the same already.
func (a *Agent) keepDoors() error {
	doors := a.doors()
	had, err := a.dir.Doors()
	if errors.Is(err, fs.ErrNotExist) {
		had = a.id.node.Endpoints
	}
	if slices.Equal(doors, had) {
		return nil
	}
	return a.dir.SetDoors(doors)
}

// listenTCP opens every door of this gateway.
func (a *Agent) listenTCP(ctx context.Context) ([]net.Listener, error) {
	var lns []net.Listener
	open := func(network string, addr netip.AddrPort, key string) error {
		ln, err := (&net.ListenConfig{}).Listen(ctx, network, addr.String())
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("listen for joining hosts: TCP port %d: %w: stop the other program or set %s", addr.Port(), tunnel.ErrPortTaken, key)
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("listen for joining hosts: TCP port %d: %w: grant CAP_NET_BIND_SERVICE, or set %s to a port above 1023", addr.Port(), fs.ErrPermission, key)
		case err != nil:
			return fmt.Errorf("listen for joining hosts: %w", err)
		}
		lns = append(lns, ln)
		return nil
	}
	// Unspecified is both families, where the host has both.
	err := open("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), a.port()), "listen_port")
	for _, addr := range a.set.Enrolment.Listen {
		if err == nil && !(addr.Addr().IsUnspecified() && addr.Port() == a.port()) {
			err = open("tcp", addr, "enrolment.listen")
		}
	}
	if err != nil {
		for _, ln := range lns {
			ln.Close()
		}
		return nil, err
	}
	return lns, nil
}

// serveAll serves every listener until ctx ends, or one fails.
func serveAll(ctx context.Context, s *enroll.Server, lns []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(lns))
	for _, ln := range lns {
		go func() { ended <- s.Run(ctx, ln) }()
	}
	var errs []error
	for range lns {
		errs = append(errs, <-ended)
		cancel()
	}
	return errors.Join(errs...)
}

// enrolmentOptions connect the server to what the rest of the house knows.
func (a *Agent) enrolmentOptions() enroll.Options {
	set := &a.set.Enrolment
	o := enroll.Options{
		Dir: a.dir, Roll: a.trust.roll, NodeLife: set.NodeLife,
		RequireApproval: func() bool { return set.RequireApproval },
		Seeds:           a.gossip.Export,
		Introduce: func(chain [][]byte) {
			if err := a.gossip.Introduce(chain); err != nil {
				a.log.Error("new node not introduced", "err", err)
			}
		},
		Greeted: a.greeted,
		Named: func(name string) []discovery.Identity {
			var out []discovery.Identity
			for _, m := range a.gossip.Members() {
				if m.Name == name && m.State != discovery.StateLeft {
					out = append(out, m.Identity)
				}
			}
			return out
		},
		Alive: a.alive,
		AddrInUse: func(addr netip.Addr) bool {
			return slices.ContainsFunc(a.gossip.Members(), func(m discovery.Member) bool { return m.Addr == addr })
		},
		Replaced: func(id discovery.Identity) { a.putOut(id, discovery.ReasonReplaced) },
		Left:     func(id discovery.Identity) { a.putOut(id, discovery.ReasonWentAway) },
		Streams:  a.takeStreams(),
		History:  a.trust.history.Append,
		Logger:   a.log.With("room", "enroll"),
	}
	if len(set.AWS) == 0 {
		return o
	}
	verifier := awsid.NewVerifier(awsid.VerifierOptions{Endpoint: set.STSEndpoint})
	o.AWS = func(ctx context.Context, proof, challenge []byte) (enroll.AWSCaller, error) {
		p, err := awsid.ParseProof(proof)
		if err != nil {
			return enroll.AWSCaller{}, err
		}
		c, err := verifier.Verify(ctx, p, challenge)
		if errors.Is(err, awsid.ErrUnreachable) {
			return enroll.AWSCaller{}, fmt.Errorf("%w: %w", enroll.ErrAWSAway, err)
		}
		if err != nil {
			return enroll.AWSCaller{}, err
		}
		return enroll.AWSCaller{Account: c.Account, Partition: c.Partition, Role: c.Role, Session: c.Session, ARN: c.ARN}, nil
	}
	for _, r := range set.AWS {
		o.AWSRules = append(o.AWSRules, enroll.AWSRule{
			Name: r.Name, Account: r.Account, Role: r.Role, Site: r.Site, NodeRole: r.NodeRole, Names: r.Names, Ephemeral: r.Ephemeral, Subnets: r.Subnets,
		})
	}
	return o
}

// greeted takes in a member that is not known here: the records on disk are
// some seconds old after a crash, and may be lost. Then nobody who has no other
// gateway could be heard again, since there is no tunnel to be heard through.
func (a *Agent) greeted(id discovery.NodeID, chain [][]byte) {
	if _, known := a.member(id); known {
		return
	}
	if err := a.gossip.Introduce(chain); err != nil {
		a.log.Debug("member that greeted not taken in", "node", id, "err", err)
		return
	}
	a.log.Info("member taken in anew: it greeted", "node", id)
}

// alive: gossip or a recent pulse says that the node is there.
func (a *Agent) alive(id discovery.NodeID) bool {
	s := a.world.Snapshot(time.Now())
	for _, m := range s.Members {
		if m.ID == id && (m.State == discovery.StateAlive || m.State == discovery.StateSuspect) {
			return true
		}
	}
	for _, o := range s.Sight.Observations {
		if o.Node == id && time.Since(o.Proof) < greetAlone {
			return true
		}
	}
	return false
}

// putOut revokes a node that left, or that a rebuilt host replaced.
func (a *Agent) putOut(id discovery.Identity, why discovery.Reason) {
	if _, done := a.trust.roll.Revoked(id.ID); done {
		return
	}
	n := pki.Notice{Kind: pki.NoticeRevoked, Node: id.ID, Name: id.Name, Reason: string(why)}
	if err := a.declare(n, "node "+id.ID.Short()+" "+id.Name); err != nil {
		a.log.Error("node not put out", "node", id.ID, "reason", string(why), "err", err)
	}
}

// Prove answers a gateway's challenge with this host's AWS identity, for
// [enroll.JoinOptions].
func Prove(ctx context.Context, challenge []byte) ([]byte, error) {
	p, err := awsid.Prove(ctx, awsid.ProveOptions{}, challenge)
	if err != nil {
		return nil, err
	}
	return p.Encode()
}

// checkLedger tells at the start what would otherwise be told to the next host
// that joins. None of it is needed for traffic.
func (a *Agent) checkLedger() {
	_, issuer := a.dir.Issuer()
	_, ledger := a.dir.Allocations()
	_, root := a.dir.RootKey()
	if errors.Is(root, fs.ErrNotExist) {
		root = nil // kept offline
	}
	if err := errors.Join(issuer, ledger); err != nil {
		a.log.Error("this gateway will refuse hosts that want to join", "err", err)
	}
	if root != nil {
		a.log.Error("this gateway will refuse gateways that want to join", "err", root)
	}
}
