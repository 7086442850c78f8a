package enroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

const (
	// rounds is how often join goes through all addresses before it gives up.
	rounds = 4
	// pollEvery is how many pauses lie between two questions of a host that waits.
	pollEvery = 5
)

// joining is one run of Join.
type joining struct {
	JoinOptions
	dir   *statedir.Dir
	keys  keys
	root  []byte // with the pinned key, as the last gateway showed it
	fresh bool   // keys were made in this run
	kept  bool   // keys are on disk
	doubt bool   // a gateway may have spent a use on us, or keeps one for us
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
	j.keys, err = readKeys(j.dir, j.Role)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// None, or a run that ended between two of them and sent nothing.
		j.fresh = true
		j.keys, err = makeKeys(j.Role)
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
	tried := make([]*Error, len(j.Gateways))
	for round := range rounds {
		for i, addr := range j.Gateways {
			res, err := j.attempt(ctx, addr)
			if err == nil {
				return res, nil
			}
			var bad *Error
			if errors.As(err, &bad) && bad.Code == CodePending {
				return j.wait(ctx, addr, bad)
			}
			if !errors.As(err, &bad) || bad.Code.final() {
				return Result{}, err
			}
			tried[i] = worse(tried[i], bad)
		}
		if round == rounds-1 || !again(tried) {
			break
		}
		if j.rest(ctx, j.pause<<round); ctx.Err() != nil {
			return Result{}, fmt.Errorf("join: %w; %w", ctx.Err(), summary(tried))
		}
	}
	return Result{}, summary(tried)
}

// wait asks the gateway that knows of us until a person has decided, or
// patience ends. What passes by itself, such as a restart there, is waited for.
func (j *joining) wait(ctx context.Context, addr string, last *Error) (Result, error) {
	if j.Waiting != nil {
		j.Waiting(Fingerprint(j.keys.id()))
	}
	// What is waited is counted, not read off a clock that may be set meanwhile.
	for waited := time.Duration(0); waited < j.Patience; {
		d := min(j.Patience-waited, j.pause*pollEvery)
		if j.rest(ctx, d); ctx.Err() != nil {
			return Result{}, fmt.Errorf("join: %w; %w", ctx.Err(), last)
		}
		start := time.Now()
		res, err := j.attempt(ctx, addr)
		if err == nil {
			return res, nil
		}
		waited += d + time.Since(start)
		var bad *Error
		if !errors.As(err, &bad) || bad.Code != CodePending && !bad.Code.passing() {
			return Result{}, err
		}
		if bad.Code == CodePending {
			last = bad
		}
	}
	return Result{}, last
}

// attempt is one try at one address.
func (j *joining) attempt(ctx context.Context, addr string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	name := ""
	if j.Token != nil {
		name = j.Token.Mesh
	}
	l := line{dial: j.dial, now: j.now, believe: pinned(j.Pin, name, func(root []byte) { j.root = root })}
	g, bad := l.reach(ctx, addr)
	if bad != nil {
		return Result{}, bad
	}
	defer func() { _ = g.conn.Close() }() // the answer is here, or there is none
	mesh, err := pki.MeshOf(j.root)
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
	ans, bad := g.ask(q, j.keys, j.prover(ctx))
	if bad == nil || bad.Code == CodePending || bad.Code == CodeRefused || bad.Code == CodeUnreachable || bad.Code == CodeBadAnswer || bad.Code == CodeInternal {
		j.doubt = true
	}
	if bad != nil {
		return Result{}, bad
	}
	return j.finish(g, ans, mesh)
}

// prover shows the token, or lets AWS confirm us.
func (j *joining) prover(ctx context.Context) prover {
	return func(r *request, exported []byte) error {
		if j.Token != nil {
			r.TokenProof = j.Token.Sign(transcript(proofToken, exported, r.Question))
			return nil
		}
		proof, err := j.Prove(ctx, challenge(exported, r.Question))
		if err == nil && (len(proof) == 0 || len(proof) > maxProof) {
			err = fmt.Errorf("a proof of %d bytes, at most %d", len(proof), maxProof)
		}
		if err != nil {
			return &Error{Code: CodeBadAWS, Text: "this host cannot prove its AWS identity", Err: err, Next: "look whether it has an IAM role (aws sts get-caller-identity); nothing was sent"}
		}
		r.AWSProof = proof
		return nil
	}
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
	q := question{
		Version: protoVersion, Kind: kindJoinAWS, Time: j.now().UTC(),
		Name: j.Name, Site: j.Site, Role: j.Role, Endpoints: j.Endpoints,
	}
	if j.Token != nil {
		q.Kind, q.Token = kindJoin, j.Token.ID
	}
	var err error
	q.Identity, q.WireGuard, q.Issuer, err = j.keys.public()
	return q, err
}

// finish checks the answer, introduces a gateway, and writes everything.
func (j *joining) finish(g *gateway, ans answer, mesh pki.Mesh) (Result, error) {
	m, bad := j.accept(g, ans, mesh)
	if bad != nil {
		return Result{}, bad
	}
	if m.renewer != nil {
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
