package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// gateway is a verified other end.
type gateway struct {
	conn     *tls.Conn
	exported []byte
	id       discovery.Identity
	addr     netip.AddrPort // where it was reached
	now      func() time.Time
}

// dialer makes the TCP connection; tests and the overlay bring their own.
type dialer func(ctx context.Context, addr string) (net.Conn, error)

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: exchangeTime / 2}
	return d.DialContext(ctx, "tcp", addr)
}

// line is how gateways are reached and believed.
type line struct {
	dial    dialer
	believe believer
	anytime bool // the time of the gateway's certificate is not looked at
	now     func() time.Time
}

// reach connects and verifies; nothing of ours has been sent when it returns.
// The caller closes the connection. The deadline of ctx holds for all of it.
func (l line) reach(ctx context.Context, addr string) (*gateway, *Error) {
	conn, err := l.dial(ctx, addr)
	if err != nil {
		return nil, unreachable(addr, err)
	}
	if at, ok := ctx.Deadline(); ok {
		conn.SetDeadline(at)
	}
	g := &gateway{addr: remote(conn), now: l.now}
	var bad *Error
	g.conn = tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protoALPN},
		// Names and public roots mean nothing here: verify decides, on the
		// roots of the mesh.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if g.id, bad = l.verify(cs, addr); bad != nil {
				return bad
			}
			return nil
		},
	})
	err = g.conn.HandshakeContext(ctx)
	if err == nil {
		g.exported, err = export(g.conn.ConnectionState())
	}
	if err != nil {
		conn.Close()
		if bad == nil {
			bad = unreachable(addr, err)
		}
		return nil, bad
	}
	return g, nil
}

func (l line) verify(cs tls.ConnectionState, addr string) (discovery.Identity, *Error) {
	if cs.NegotiatedProtocol != protoALPN {
		return discovery.Identity{}, &Error{Code: CodeFakeGateway, Text: addr + " does not speak drawbridge's enrolment; nothing was sent", Next: "check the address"}
	}
	id, err := l.believe(rawChain(cs.PeerCertificates), l.now())
	timely := errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid)
	switch {
	case timely && !l.anytime:
		return id, &Error{
			Code: CodeClockSkew, Text: "the gateway's certificate does not fit this host's clock", Err: err,
			Next: "nothing was sent; check this host's clock first (timedatectl), then whether the gateway's agent renews its certificate",
		}
	case err != nil && !timely:
		return id, fake(addr, err)
	case id.Role != discovery.RoleGateway:
		return id, fake(addr, fmt.Errorf("%s is a %s of the mesh, not a gateway", id.Name, id.Role))
	}
	return id, nil
}

func fake(addr string, err error) *Error {
	return &Error{
		Code: CodeFakeGateway, Text: "the host at " + addr + " is not a gateway of this mesh", Err: err,
		Next: "nothing was sent; check address and DNS, and whether somebody intercepts the connection",
	}
}

func rawChain(certs []*x509.Certificate) [][]byte {
	var chain [][]byte
	for _, c := range certs {
		chain = append(chain, c.Raw)
	}
	return chain
}

// prover adds the proof that lets a host join, beside that of its keys.
type prover func(r *request, exported []byte) error

// ask sends a question with its proofs and reads the answer.
func (g *gateway) ask(q question, k keys, prove prover) (answer, *Error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, &Error{Code: CodeInternal, Text: "encode question", Err: err}
	}
	req := request{Question: body, IdentityProof: ed25519.Sign(k.identity, transcript(proofIdentity, g.exported, body))}
	if q.Issuer != nil {
		req.IssuerProof = ed25519.Sign(k.issuer, transcript(proofIssuer, g.exported, body))
	}
	if prove != nil {
		if err := prove(&req, g.exported); err != nil {
			var bad *Error
			if !errors.As(err, &bad) {
				bad = &Error{Code: CodeInternal, Text: "prove the question", Err: err}
			}
			return answer{}, bad
		}
	}
	return g.exchange(req, q.Time)
}

// exchange writes one frame and reads the answer. Refusals become errors.
func (g *gateway) exchange(v any, asked time.Time) (answer, *Error) {
	if err := writeFrame(g.conn, v, maxFrame); err != nil {
		return answer{}, unreachable(g.addr.String(), err)
	}
	frame, err := readFrame(g.conn, maxAnswer)
	if err != nil {
		return answer{}, unreachable(g.addr.String(), err)
	}
	ans, err := decodeAnswer(frame)
	if err != nil {
		return ans, &Error{Code: CodeBadAnswer, Text: "the gateway's answer cannot be read", Err: err, Next: nextStep(CodeVersion)}
	}
	switch ans.Code {
	case CodeOK:
		return ans, nil
	case CodeClockSkew:
		return ans, skewed(asked, ans.Time)
	}
	return ans, &Error{Code: ans.Code, Text: "the gateway refused: " + printable(ans.Text), Next: nextStep(ans.Code)}
}

// decodeAnswer ignores unknown fields: a newer gateway may say more.
func decodeAnswer(frame []byte) (answer, error) {
	var ans answer
	if err := json.Unmarshal(frame, &ans); err != nil {
		return answer{}, err
	}
	switch {
	case ans.Code == "" || len(ans.Code) > 64:
		return answer{}, errors.New("no code in it")
	case ans.Version != protoVersion:
		return answer{}, fmt.Errorf("it speaks version %d of the enrolment protocol, this host %d", ans.Version, protoVersion)
	}
	return ans, nil
}
