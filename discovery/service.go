package discovery

import (
	"net/netip"
	"time"
)

// CheckState is the three-valued outcome of a service's check on its own node.
type CheckState string

// The outcomes. Unknown: not decided yet since the agent started.
const (
	CheckUnknown CheckState = "unknown"
	CheckPassing CheckState = "passing"
	CheckFailing CheckState = "failing"
)

// Service is a named TCP port on a node, with its health and capacity.
type Service struct {
	Name     string
	Port     uint16
	Check    CheckState
	Capacity int // in units of the operator's choosing; 1 by default
}

// ServiceSpec is what the operator configured for a service of this node.
type ServiceSpec struct {
	Name     string
	Port     uint16
	To       netip.AddrPort // where it listens locally; zero: 127.0.0.1:Port
	Capacity int
	Check    CheckSpec
}

// CheckKind names a way of checking.
type CheckKind string

// The kinds. CheckNone counts as passing.
const (
	CheckNone CheckKind = "none"
	CheckTCP  CheckKind = "tcp"
	CheckHTTP CheckKind = "http"
)

// CheckSpec says how a service is checked on its own node.
type CheckSpec struct {
	Kind     CheckKind
	Path     string        // http: request path; 200-399 passes
	Interval time.Duration // between starts of two checks
	Timeout  time.Duration // a hung check has failed
	Rise     int           // passes in a row until passing
	Fall     int           // failures in a row until failing
}
