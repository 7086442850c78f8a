package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// keys are what a host proves and is certified for.
type keys struct {
	identity  ed25519.PrivateKey
	wireGuard tunnel.PrivateKey
	issuer    ed25519.PrivateKey // joining gateways
}

// gateway is a verified other end.
type gateway struct {
	conn     *tls.Conn
	exported []byte
	id       discovery.Identity
	root     []byte
	addr     netip.AddrPort // where it was reached
}

// trust decides on the certificates that the other end presents: the root to
// believe in, and the mesh it must be of.
type trust func(chain [][]byte) (root []byte, mesh string, err error)

// dialer makes the TCP connection; tests and the overlay bring their own.
type dialer func(ctx context.Context, addr string) (net.Conn, error)

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: exchangeTime / 2}
	return d.DialContext(ctx, "tcp", addr)
}

// reach connects and verifies; nothing of ours has been sent when it returns.
// The caller closes the connection. The deadline of ctx holds for all of it.
func reach(ctx context.Context, dial dialer, addr string, believe trust, now func() time.Time) (*gateway, *Error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, unreachable(addr, err)
	}
	if at, ok := ctx.Deadline(); ok {
		conn.SetDeadline(at)
	}
	g := &gateway{addr: remote(conn)}
	var bad *Error
	g.conn = tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protoALPN},
		// Names and public roots mean nothing here: verify decides, on the
		// pinned root.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if bad = g.verify(cs, addr, believe, now()); bad != nil {
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

func (g *gateway) verify(cs tls.ConnectionState, addr string, believe trust, now time.Time) *Error {
	if cs.NegotiatedProtocol != protoALPN {
		return &Error{Code: CodeFakeGateway, Text: addr + " does not speak drawbridge's enrolment; nothing was sent", Next: "check the address"}
	}
	chain := rawChain(cs.PeerCertificates)
	root, mesh, err := believe(chain)
	if err != nil {
		return fake(addr, err)
	}
	roots, err := pki.NewRoots(root)
	if err != nil {
		return fake(addr, err)
	}
	id, _, err := pki.Verify(chain, roots, mesh, now)
	if errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrNotYetValid) {
		return &Error{
			Code: CodeClockSkew, Text: "the gateway's certificate does not fit this host's clock", Err: err,
			Next: "nothing was sent; check this host's clock first (timedatectl), then whether the gateway's agent renews its certificate",
		}
	}
	if err != nil {
		return fake(addr, err)
	}
	if id.Role != discovery.RoleGateway {
		return fake(addr, fmt.Errorf("%s is a %s of the mesh, not a gateway", id.Name, id.Role))
	}
	g.id, g.root = id, root
	return nil
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

// ask sends a question with its proofs and reads the answer. tok is nil for
// renewals.
func (g *gateway) ask(q question, k keys, tok *pki.Token) (answer, *Error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, &Error{Code: CodeInternal, Text: "encode question", Err: err}
	}
	req := request{Question: body, IdentityProof: ed25519.Sign(k.identity, transcript(proofIdentity, g.exported, body))}
	if tok != nil {
		req.TokenProof = tok.Sign(transcript(proofToken, g.exported, body))
	}
	if q.Issuer != nil {
		req.IssuerProof = ed25519.Sign(k.issuer, transcript(proofIssuer, g.exported, body))
	}
	return g.exchange(req, q.Time)
}

// exchange writes one frame and reads the answer. Refusals become errors.
func (g *gateway) exchange(v any, asked time.Time) (answer, *Error) {
	if err := writeFrame(g.conn, v); err != nil {
		return answer{}, unreachable(g.addr.String(), err)
	}
	frame, err := readFrame(g.conn)
	if err != nil {
		return answer{}, unreachable(g.addr.String(), err)
	}
	ans, err := decodeAnswer(frame)
	if err != nil {
		return ans, &Error{Code: CodeBadAnswer, Text: "the gateway's answer cannot be read", Err: err, Next: "install the same version of drawbridge on both hosts"}
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
	if ans.Version != protoVersion || ans.Code == "" {
		return answer{}, fmt.Errorf("version %d, want %d", ans.Version, protoVersion)
	}
	return ans, nil
}

func skewed(here, there time.Time) *Error {
	d, word := here.Sub(there).Round(time.Second), "ahead of"
	if d < 0 {
		d, word = -d, "behind"
	}
	return &Error{
		Code: CodeClockSkew,
		Text: fmt.Sprintf("this host's clock (%s) is %s %s the gateway's (%s)", here.UTC().Format(time.RFC3339), d, word, there.UTC().Format(time.RFC3339)),
		Next: "set the clock that is wrong (timedatectl set-ntp true) and run the same command again; the token was not used",
	}
}

// unreachable says in which way an address could not be reached.
func unreachable(addr string, err error) *Error {
	e := &Error{Code: CodeUnreachable, Text: addr, Err: err}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Text += ": the name does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Text += ": nothing listens there (is the agent running on the gateway?)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		e.Text += ": no answer in time (does the security group allow this TCP port?)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Text += ": the other end hung up (busy, or not drawbridge)"
	}
	return e
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// printable keeps a stranger's text from playing with the terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return s
}

// makeKeys makes what a new host needs.
func makeKeys(role discovery.Role) (keys, error) {
	var k keys
	var err error
	if _, k.identity, err = ed25519.GenerateKey(nil); err != nil {
		return k, fmt.Errorf("make identity key: %w", err)
	}
	if k.wireGuard, err = tunnel.NewPrivateKey(); err != nil {
		return k, err
	}
	if role == discovery.RoleGateway {
		if _, k.issuer, err = ed25519.GenerateKey(nil); err != nil {
			return k, fmt.Errorf("make issuing key: %w", err)
		}
	}
	return k, nil
}

// keep puts keys into the state directory.
func (k keys) keep(d *statedir.Dir) error {
	err := d.SetIdentityKey(k.identity)
	if err == nil {
		err = d.SetWireGuardKey(k.wireGuard)
	}
	if err == nil && k.issuer != nil {
		err = d.SetIssuerKey(k.issuer)
	}
	return err
}
