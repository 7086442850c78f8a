package enroll

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// Server answers joining hosts and members on a gateway.
type Server struct {
	opts  Options
	log   *slog.Logger
	limit limiter
	now   func() time.Time
	trust trusted
	shown shown
	audit auditor
	aws   chan struct{} // a place for each question to AWS
}

// NewServer makes a server; Run starts it.
func NewServer(o Options) *Server {
	s := &Server{opts: o, log: o.Logger, now: time.Now, aws: make(chan struct{}, maxAWSCalls)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.audit.keep = journal(o.Dir, o.History, s.log)
	return s
}

// String names the task.
func (s *Server) String() string { return "enroll" }

// call is one question on one connection.
type call struct {
	request
	question
	exported []byte
	from     netip.AddrPort
	id       discovery.NodeID
	now      time.Time
}

// actor is who asks, for the journal.
func (c *call) actor() string { return wireActor(c.id, c.Name, c.from.Addr()) }

// exchange is one question and one answer, and a gateway's introduction.
func (s *Server) exchange(ctx context.Context, tc *tls.Conn, from netip.AddrPort) error {
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	exported, err := export(tc.ConnectionState())
	if err != nil {
		return err
	}
	frame, err := readFrame(tc, maxFrame)
	if err != nil {
		return err
	}
	ans, asked := s.answer(ctx, frame, exported, from)
	if err := writeFrame(tc, ans, maxAnswer); err != nil || ans.Code != CodeOK || ans.Issuer == nil || asked.Kind == kindCertify {
		return err
	}
	return s.introduced(tc, asked, ans)
}

// answer decides on a request. Refusals are answers.
func (s *Server) answer(ctx context.Context, frame, exported []byte, from netip.AddrPort) (answer, *call) {
	c := &call{exported: exported, from: from, now: s.now()}
	s.audit.settle(c.now)
	var bad *Error
	var ans answer
	if c.request, c.question, bad = decodeQuestion(frame, exported); bad == nil {
		c.id = pki.NodeID(c.Identity)
		ans, bad = s.decide(ctx, c)
	}
	if bad != nil {
		ans = answer{Code: bad.Code, Text: bad.Text}
		s.refused(c, bad)
	}
	ans.Version, ans.Time = protoVersion, s.now().UTC()
	return ans, c
}

// decide splits by kind.
func (s *Server) decide(ctx context.Context, c *call) (answer, *Error) {
	t, bad := s.trusting()
	if bad != nil {
		return answer{}, bad
	}
	if c.Kind == kindHello {
		return answer{Code: CodeOK, Standing: s.greeted(t, c)}, nil
	}
	if skew := c.Time.Sub(c.now); skew > maxSkew || skew < -maxSkew {
		return answer{}, refuse(CodeClockSkew, "the clocks differ by more than %s", maxSkew)
	}
	if c.Kind == kindLeave {
		return s.leave(t, c)
	}
	if bad := t.outcast(c.id); bad != nil {
		return answer{}, bad
	}
	switch c.Kind {
	case kindRenew:
		return s.renew(t, c)
	case kindCertify:
		return s.recertify(t, c)
	case kindJoinAWS:
		return s.joinAWS(ctx, t, c)
	}
	return s.redeem(t, c)
}

// refused notes a refusal. Who had a good token or identity is worth a
// person's look; strangers are not worth a line each.
func (s *Server) refused(c *call, bad *Error) {
	level := slog.LevelWarn
	switch bad.Code {
	case CodeMalformed, CodeVersion, CodeUnknownToken, CodeUnknownNode, CodeClockSkew, CodeBusy, CodeBadAWS:
		level = slog.LevelDebug
	case CodePending:
		s.log.Debug("host waits", "node", c.Name, "token", c.Token, "endpoint", c.from, "reason", bad.Text)
		return
	}
	s.log.Log(context.Background(), level, "enrolment refused", "reason", bad.Code, "token", c.Token, "node", c.Name, "endpoint", c.from, "err", bad)
	s.audit.refused(c, bad)
}

func remote(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) // on a socket for both families
	}
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return ap
}
