package api

import (
	"drawbridge/agent/decide"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// streamPath says how a node is reached whose peer has the endpoint of a stream.
func streamPath(s *decide.Snapshot, key tunnel.Key) string {
	for _, st := range s.Streams {
		switch {
		case st.Key != key:
		case s.Self.Role == discovery.RoleGateway:
			return "stream (TLS from " + st.To.String() + ")"
		case st.UDP:
			return "stream (UDP again, beside TLS to " + st.To.String() + ")"
		default:
			return "stream (TLS to " + st.To.String() + ")"
		}
	}
	return "stream (ended)"
}
