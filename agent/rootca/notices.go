package rootca

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// RevokeIssuer signs the notice that voids an issuing key, given by one of its
// certificates (DER): all that it certified, renewed and said. The notice is
// kept among those of the directory; the caller spreads it. Call it within
// [statedir.Dir.Update].
func RevokeIssuer(dir *statedir.Dir, ca []byte, reason string, now time.Time) ([]byte, error) {
	b, err := revokeIssuer(dir, ca, reason, now)
	if err != nil {
		return nil, fmt.Errorf("revoke issuing key: %w", err)
	}
	return b, nil
}

func revokeIssuer(dir *statedir.Dir, ca []byte, reason string, now time.Time) ([]byte, error) {
	v, err := open(dir)
	if err != nil {
		return nil, err
	}
	root, err := v.signer(v.roots[0])
	if err != nil {
		return nil, err
	}
	if err := v.checkCA(ca); err != nil {
		return nil, err
	}
	n := pki.Notice{Kind: pki.NoticeIssuerRevoked, Name: pki.Gateway(ca), Reason: reason, At: now}
	if n.Issuer, err = pki.Pin(ca); err != nil {
		return nil, err
	}
	b, err := pki.SignNotice(root, v.mesh.Name, n)
	if err != nil {
		return nil, err
	}
	if err := record(dir, history.Event{
		At: now, Subject: n.Name, To: "issuer-revoked", Reason: reason, Detail: map[string]string{"issuer": hex.EncodeToString(n.Issuer[:])},
	}); err != nil {
		return nil, err
	}
	return b, v.keep(b)
}

// checkCA checks that a certificate is a gateway's, under a trusted root.
func (v vault) checkCA(ca []byte) error {
	roots, err := pki.NewRoots(v.roots...)
	if err != nil {
		return err
	}
	return pki.CheckCA(ca, roots, v.mesh.Name)
}

// Reissue signs anew, with the current root, what a root signed that retires:
// of the given notices those that the other trusted roots alone support and
// that still hold. Without, revoked nodes and issuers come back with the root
// that revoked them. The result is kept among the notices of the directory; the
// caller spreads it before [Retire]. Call it within [statedir.Dir.Update].
func Reissue(dir *statedir.Dir, notices [][]byte, now time.Time) ([][]byte, error) {
	out, err := reissue(dir, notices, now)
	if err != nil {
		return nil, fmt.Errorf("sign notices again: %w", err)
	}
	return out, nil
}

func reissue(dir *statedir.Dir, notices [][]byte, now time.Time) ([][]byte, error) {
	v, err := open(dir)
	if err != nil {
		return nil, err
	}
	root, err := v.signer(v.roots[0])
	if err != nil {
		return nil, err
	}
	kept, err := v.notices()
	if err != nil {
		return nil, err
	}
	hold, _, err := believe(v.mesh.Name, v.roots, append(kept, notices...))
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, b := range hold.Notices() {
		n, err := pki.ReadNotice(b)
		if err != nil || n.Kind == pki.NoticeRoots || n.By != pki.ByRoot {
			continue
		}
		if _, lost, err := believe(v.mesh.Name, v.roots[:1], [][]byte{b}); err != nil || lost == nil {
			continue // the current root has said it
		}
		again, err := pki.SignNotice(root, v.mesh.Name, n)
		if err != nil {
			return nil, err
		}
		out = append(out, again)
	}
	if len(out) == 0 {
		return nil, nil
	}
	if err := record(dir, history.Event{At: now, Subject: v.mesh.Name, To: "reissued", Detail: map[string]string{"notices": strconv.Itoa(len(out))}}); err != nil {
		return nil, err
	}
	return out, v.keep(out...)
}

// notices are those of the directory.
func (v vault) notices() ([][]byte, error) {
	list, err := v.dir.Notices()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// roll is what the directory knows and believes.
func (v vault) roll() (*pki.Roll, error) {
	list, err := v.notices()
	if err != nil {
		return nil, err
	}
	roll, _, err := believe(v.mesh.Name, v.roots, list)
	return roll, err
}

// believe merges notices under the given roots; lost tells what is not believed.
func believe(mesh string, trusted, notices [][]byte) (roll *pki.Roll, lost, err error) {
	roots, err := pki.NewRoots(trusted...)
	if err != nil {
		return nil, nil, err
	}
	roll = pki.NewRoll(mesh, roots)
	return roll, roll.Restore(notices), nil
}

// keep puts notices among those of the directory, so that a crash does not lose
// them, and drops what does not hold any more. The agent writes there too, what
// it heard: who signs a notice tells the agent.
func (v vault) keep(add ...[]byte) error {
	roll, err := v.roll()
	if err != nil {
		return err
	}
	if err := roll.Restore(add); err != nil {
		return err
	}
	return v.dir.SetNotices(roll.Notices())
}
