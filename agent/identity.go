package agent

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// identity is who this host is, as the state directory tells it.
type identity struct {
	node  statedir.Node
	self  discovery.Identity
	key   ed25519.PrivateKey
	wg    tunnel.PrivateKey
	chain [][]byte
}

// ErrNotJoined says that the state directory belongs to no mesh yet.
var ErrNotJoined = errors.New("this host belongs to no mesh yet: run `drawbridge join` with a token, or `drawbridge init` to make a mesh")

// readIdentity reads and checks the whole identity. An expired certificate is
// a warning: it must not cut a living data plane.
func readIdentity(dir *statedir.Dir, log *slog.Logger) (_ *identity, _ *trust, err error) {
	if !dir.Joined() {
		return nil, nil, fmt.Errorf("%s: %w", dir, ErrNotJoined)
	}
	var id identity
	defer func() {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; restore the whole directory from one backup, or empty it and join again with a new token", err)
		}
	}()
	if id.node, err = dir.Node(); err != nil {
		return nil, nil, err
	}
	if id.key, err = dir.IdentityKey(); err != nil {
		return nil, nil, err
	}
	if id.wg, err = dir.WireGuardKey(); err != nil {
		return nil, nil, err
	}
	if id.chain, err = dir.Chain(); err != nil {
		return nil, nil, err
	}
	t, err := readTrust(dir, id.node.Mesh, log)
	if err != nil {
		return nil, nil, err
	}
	self, pub, err := t.roll.Verify(id.chain, time.Now())
	if errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid) {
		log.Warn("own certificate is not valid now: tunnels stay, others are told", "err", err)
	} else if errors.Is(err, pki.ErrRevoked) {
		return nil, nil, fmt.Errorf("this node is out of the mesh: %w; empty %s and join again with a new token", err, dir.Path())
	} else if err != nil {
		return nil, nil, fmt.Errorf("own certificate: %w", err)
	}
	if !pub.Equal(id.key.Public()) {
		return nil, nil, fmt.Errorf("%s: certificate and identity key do not belong together: restore both from one backup, or join again", dir)
	}
	if wg, err := id.wg.Public(); err != nil || wg != tunnel.Key(self.WireGuard) {
		return nil, nil, fmt.Errorf("%s: certificate and WireGuard key do not belong together: restore both from one backup, or join again", dir)
	}
	id.self = self
	return &id, t, nil
}

// Format names the node, for every verb, and hides the keys.
func (id *identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, id.self.Name) }

// sign signs with the identity key.
func (id *identity) sign(msg []byte) []byte { return ed25519.Sign(id.key, msg) }
