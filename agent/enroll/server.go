package enroll

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Options of a server. Dir is needed.
type Options struct {
	Dir *statedir.Dir
	// Seeds are signed node records for a new node to start with, the most
	// useful first (gateways); what does not fit an answer is left out.
	Seeds func() [][]byte
	// Introduce tells the mesh of a new certificate: node, issuer, root. It is
	// called before the answer goes out, and must not wait long.
	Introduce func(chain [][]byte)
	// NameTaken reports whether another node of the mesh has the name; this
	// gateway knows only those that joined through it.
	NameTaken func(name string, self discovery.NodeID) bool
	// Revoked reports whether a node may not renew.
	Revoked func(discovery.NodeID) bool
	Logger  *slog.Logger
}

// Server answers joins and renewals on a gateway.
type Server struct {
	opts  Options
	log   *slog.Logger
	limit limiter
	now   func() time.Time
}

// NewServer makes a server; Run starts it.
func NewServer(o Options) *Server {
	s := &Server{opts: o, log: o.Logger, now: time.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// String names the task.
func (s *Server) String() string { return "enroll" }

// exchange is one question and one answer, and a gateway's introduction.
func (s *Server) exchange(ctx context.Context, tc *tls.Conn, from netip.AddrPort) error {
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	exported, err := export(tc.ConnectionState())
	if err != nil {
		return err
	}
	frame, err := readFrame(tc)
	if err != nil {
		return err
	}
	ans, asked, err := s.answer(frame, exported, from)
	if err != nil {
		return err
	}
	if err := writeFrame(tc, ans); err != nil || ans.Code != CodeOK || asked.Issuer == nil {
		return err
	}
	return s.introduced(tc, asked, ans)
}

// answer decides on a request. The error is only for a question that deserves
// no answer; refusals are answers.
func (s *Server) answer(frame, exported []byte, from netip.AddrPort) (answer, question, error) {
	now := s.now()
	req, q, bad := decodeQuestion(frame, exported)
	var ans answer
	if bad == nil {
		ans, bad = s.decide(req, q, exported, now)
	}
	if bad != nil {
		ans = answer{Code: bad.Code, Text: bad.Text}
		s.logRefusal(q, bad, from)
	}
	ans.Version, ans.Time = protoVersion, now.UTC()
	return ans, q, nil
}

// decide splits by kind.
func (s *Server) decide(req request, q question, exported []byte, now time.Time) (answer, *Error) {
	if skew := q.Time.Sub(now); skew > maxSkew || skew < -maxSkew {
		return answer{}, refuse(CodeClockSkew, "the clocks differ by more than %s", maxSkew)
	}
	if q.Kind == kindRenew {
		return s.renew(q, now)
	}
	ans, chain, bad := s.redeem(req, q, exported, now)
	if bad != nil {
		return answer{}, bad
	}
	if chain != nil && s.opts.Introduce != nil {
		s.opts.Introduce(chain)
	}
	ans.Seeds = s.seeds()
	return ans, nil
}

// introduced reads a joined gateway's own certificate and passes it on.
func (s *Server) introduced(tc *tls.Conn, asked question, ans answer) error {
	frame, err := readFrame(tc)
	if err != nil {
		return err
	}
	out := answer{Version: protoVersion, Code: CodeOK, Time: s.now().UTC()}
	chain, bad := s.checkIntroduction(frame, asked, ans)
	if bad != nil {
		out.Code, out.Text = bad.Code, bad.Text
	} else if s.opts.Introduce != nil {
		s.opts.Introduce(chain)
	}
	return writeFrame(tc, out)
}

func (s *Server) checkIntroduction(frame []byte, asked question, ans answer) ([][]byte, *Error) {
	var in introduction
	if err := unmarshal(frame, &in); err != nil {
		return nil, refuse(CodeMalformed, "malformed introduction")
	}
	roots, err := s.opts.Dir.Roots()
	if err != nil {
		s.log.Error("read roots", "err", err)
		return nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	mesh, err := pki.MeshOf(roots[0])
	if err != nil {
		s.log.Error("read roots", "err", err)
		return nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	pinned, err := pki.NewRoots(roots...)
	if err != nil {
		return nil, refuse(CodeInternal, "the gateway cannot read its roots")
	}
	chain := [][]byte{in.Leaf, ans.Issuer, roots[0]}
	id, _, err := pki.Verify(chain, pinned, mesh.Name, s.now())
	if err != nil || id.ID != pki.NodeID(asked.Identity) || id.WireGuard != [32]byte(asked.WireGuard) || id.Role != discovery.RoleGateway {
		return nil, refuse(CodeMalformed, "the introduction is not what was agreed")
	}
	return chain, nil
}

// seeds fits the records into an answer.
func (s *Server) seeds() [][]byte {
	if s.opts.Seeds == nil {
		return nil
	}
	var out [][]byte
	room := maxSeeds
	for _, b := range s.opts.Seeds() {
		if len(b) <= room {
			out = append(out, b)
			room -= len(b)
		}
	}
	return out
}

// certificate is read anew for each connection: it renews under us.
func (s *Server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	chain, err := s.opts.Dir.Chain()
	if err != nil {
		return nil, err
	}
	roots, err := s.opts.Dir.Roots()
	if err != nil {
		return nil, err
	}
	key, err := s.opts.Dir.IdentityKey()
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append(chain, roots[0]), PrivateKey: key}, nil
}

// logRefusal: who had a good token or identity is worth a person's look;
// strangers are not worth a line each.
func (s *Server) logRefusal(q question, bad *Error, from netip.AddrPort) {
	level := slog.LevelWarn
	switch bad.Code {
	case CodeMalformed, CodeVersion, CodeUnknownToken, CodeUnknownNode, CodeClockSkew:
		level = slog.LevelDebug
	}
	s.log.Log(context.Background(), level, "enrolment refused", "reason", bad.Code, "token", q.Token, "node", q.Name, "endpoint", from, "err", bad)
}

func remote(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return ap
}
