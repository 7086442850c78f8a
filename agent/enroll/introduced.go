package enroll

import (
	"bytes"
	"crypto/tls"
	"slices"

	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

// introduced reads a joined gateway's own certificate and passes it on.
func (s *Server) introduced(tc *tls.Conn, asked *call, ans answer) error {
	frame, err := readFrame(tc, maxFrame)
	if err != nil {
		return err
	}
	out := answer{Version: protoVersion, Code: CodeOK, Time: s.now().UTC()}
	chain, bad := s.checkIntroduction(frame, asked, ans)
	if bad != nil {
		out.Code, out.Text = bad.Code, bad.Text
		s.refused(asked, bad)
	} else if s.opts.Introduce != nil {
		s.opts.Introduce(chain)
	}
	return writeFrame(tc, out, maxAnswer)
}

func (s *Server) checkIntroduction(frame []byte, asked *call, ans answer) ([][]byte, *Error) {
	var in introduction
	if err := unmarshal(frame, &in); err != nil {
		return nil, refuse(CodeMalformed, "malformed introduction")
	}
	t, bad := s.trusting()
	if bad != nil {
		return nil, bad
	}
	chain := [][]byte{in.Leaf, ans.Issuer}
	id, _, err := t.roll.Verify(chain, s.now())
	if err != nil || id.ID != asked.id || id.WireGuard != [32]byte(asked.WireGuard) ||
		id.Role != discovery.RoleGateway || id.Name != asked.Name || id.Site != ans.Site {
		return nil, refuse(CodeMalformed, "the introduction is not what was agreed")
	}
	return chain, nil
}

// seeds fits the records into an answer.
func (s *Server) seeds() [][]byte {
	if s.opts.Seeds == nil {
		return nil
	}
	return fit(s.opts.Seeds(), maxSeeds)
}

// notices are what a new node must know from the start, the newest about roots
// first. Gossip brings those that do not fit.
func (t trust) notices() [][]byte {
	roots, all := t.rootsNotice(), t.roll.Notices()
	all = slices.DeleteFunc(all, func(b []byte) bool { return len(roots) > 0 && bytes.Equal(b, roots[0]) })
	return fit(append(roots, all...), maxNotices)
}

// rootsNotice is for members that may have missed it: without, they could not
// believe what they are answered. At most one.
func (t trust) rootsNotice() [][]byte {
	if _, ok := t.roll.RootsNotice(); !ok {
		return nil
	}
	for _, b := range t.roll.Notices() {
		if n, err := pki.ReadNotice(b); err == nil && n.Kind == pki.NoticeRoots {
			return [][]byte{b}
		}
	}
	return nil
}

// fit leaves out what does not fit into room bytes.
func fit(list [][]byte, room int) [][]byte {
	var out [][]byte
	for _, b := range list {
		if len(b) <= room {
			out = append(out, b)
			room -= len(b)
		}
	}
	return out
}
