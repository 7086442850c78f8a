package api

import "time"

// SchemaVersion is the version of every answer. Fields may be added under the
// same version; a changed or removed one makes a new version.
const SchemaVersion = 1

// Status is the answer of /v1/status.
type Status struct {
	SchemaVersion int               `json:"schema_version"`
	At            time.Time         `json:"at"` // when the answer was made
	Self          Self              `json:"self"`
	Members       []Member          `json:"members"` // self first, then by site and name
	Sites         []Site            `json:"sites"`
	Routes        []Route           `json:"routes"`
	Leader        Leader            `json:"leader"`
	Hands         []Hand            `json:"hands"`
	Counters      map[string]uint64 `json:"counters"`
	Health        []Finding         `json:"health"` // worst first
}

// Members is the answer of /v1/members.
type Members struct {
	SchemaVersion int      `json:"schema_version"`
	Members       []Member `json:"members"`
}

// Why is the answer of /v1/why: the decision about one subject, in lines for
// people.
type Why struct {
	SchemaVersion int      `json:"schema_version"`
	Subject       string   `json:"subject"`
	Lines         []string `json:"lines"`
}

// Plan is the answer of /v1/plan: the AWS calls that the present wish would
// make. Nothing of it was sent on account of being asked.
type Plan struct {
	SchemaVersion int    `json:"schema_version"`
	Leader        Leader `json:"leader"`
	Calls         []Call `json:"calls"`
}

// Call is one AWS call.
type Call struct {
	Service string `json:"service"`
	Action  string `json:"action"`
	Object  string `json:"object"`
	Detail  string `json:"detail"`
	Reason  string `json:"reason"`
}

// Events is the answer of /v1/events.
type Events struct {
	SchemaVersion int     `json:"schema_version"`
	Events        []Event `json:"events"` // oldest first
	Last          uint64  `json:"last"`   // to ask for since, next time
}

// Check is the answer of /livez and /readyz. Ready means: can carry traffic.
type Check struct {
	SchemaVersion int      `json:"schema_version"`
	OK            bool     `json:"ok"`
	State         string   `json:"state"`
	Reasons       []string `json:"reasons"` // why not
}

// The states of an agent.
const (
	StateReady    = "ready"    // carries traffic, nothing is broken
	StateStarting = "starting" // not yet, and not for long
	StateDegraded = "degraded" // cannot carry traffic, or a promise is broken
)

// Self is the agent that answers.
type Self struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	Site          string     `json:"site"`
	Role          string     `json:"role"`
	Addr          string     `json:"addr"`
	Mesh          string     `json:"mesh"`
	Version       string     `json:"version"`
	State         string     `json:"state"`
	Backend       string     `json:"backend"`
	BackendReason string     `json:"backend_reason"`
	Interface     string     `json:"interface"`
	ListenPort    uint16     `json:"listen_port"`
	MTU           int        `json:"mtu"`
	StateDir      string     `json:"state_dir"`
	Started       *time.Time `json:"started"`
	NotAfter      *time.Time `json:"certificate_not_after"`
}

// Member is one node, as the answering agent sees it.
type Member struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Site  string `json:"site"`
	Role  string `json:"role"`
	Addr  string `json:"addr"`
	State string `json:"state"` // known, alive, suspect, dead, left
	// Path is self, "direct ENDPOINT" to or from a gateway, "neighbour ENDPOINT"
	// between servers without one, "via NAME", "stream (HOW)" (over TLS, where UDP
	// is blocked) or none.
	Path         string   `json:"path"`
	HandshakeAge *Seconds `json:"handshake_age"`
	RTT          *Seconds `json:"rtt"`
	ProofAge     *Seconds `json:"proof_age"` // of the newest answer to our own pulse
	// MTU is the largest packet that we send it, in bytes, and MTUState where
	// that is from: measured, assumed (the safe base), searching (assumed until
	// now); "" where the way to the node is not our own.
	MTU      int    `json:"mtu"`
	MTUState string `json:"mtu_state"`
	// BlackHole is since when the path has swallowed packets that it carried
	// before; null: it does not.
	BlackHole *time.Time `json:"mtu_black_hole"`
	Rx        uint64     `json:"rx"` // bytes since the device's start
	Tx        uint64     `json:"tx"`
	Draining  bool       `json:"draining"`
	Version   string     `json:"version"`
	Services  []Service  `json:"services"`
}

// Service is one published service of a node.
type Service struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Check    string `json:"check"` // unknown, passing, failing
	Capacity int    `json:"capacity"`
}

// Site is a remote site with its verdict.
type Site struct {
	Site     string     `json:"site"`
	Verdict  string     `json:"verdict"` // up, dark, undecided
	Reason   string     `json:"reason"`
	Since    *time.Time `json:"since"`
	Nodes    int        `json:"nodes"`
	Proven   int        `json:"proven"`
	LastSeen *time.Time `json:"last_seen"`
	Views    []View     `json:"views"` // the own one first, if there is one
}

// View is what one gateway holds of a site.
type View struct {
	Observer  string   `json:"observer"`   // name
	State     string   `json:"state"`      // lit, dark, blind
	Age       *Seconds `json:"age"`        // since it was heard
	LastProof *Seconds `json:"last_proof"` // age of its newest proof, when told
}

// Route is one public service and how it is split.
type Route struct {
	Route string     `json:"route"`
	State string     `json:"state"` // normal, dark, waiting, ramp, keep
	Until *time.Time `json:"until"` // end of the present wait or step
	Pools []Pool     `json:"pools"` // in the operator's order
}

// Pool is one share of a route. Weights are 0-999.
type Pool struct {
	Pool       string `json:"pool"`
	Site       string `json:"site"`       // "" outside the mesh
	Now        int    `json:"now"`        // in ELB; -1 unknown
	Goal       int    `json:"goal"`       // wanted; -1 keep
	Normal     int    `json:"normal"`     // as configured
	Healthy    int    `json:"healthy"`    // by ELB; -1 unknown
	Registered int    `json:"registered"` // by ELB; -1 unknown
	Reason     string `json:"reason"`
}

// Leader is the gateway that writes to AWS; an empty ID means nobody.
type Leader struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Self   bool   `json:"self"`
	Reason string `json:"reason"`
}

// Hand is the last attempt of one hand.
type Hand struct {
	Hand    string     `json:"hand"`
	At      *time.Time `json:"at"`
	Took    Seconds    `json:"took"`
	Changed int        `json:"changed"`
	Err     string     `json:"err"`   // "" on success
	Fails   int        `json:"fails"` // in a row
	Next    *time.Time `json:"next"`  // null: with the next new wish
}

// Finding is one line of health.
type Finding struct {
	Code     string `json:"code"`     // stable, kebab-case
	Severity string `json:"severity"` // error, warning, info
	Subject  string `json:"subject"`
	Text     string `json:"text"`
	Next     string `json:"next"` // the next step
}
