package enroll

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// Options of a server. Dir is needed. No hook is called with the ledger's lock
// held unless it says so; hooks must not wait long.
type Options struct {
	Dir *statedir.Dir
	// Roll is what notices told: who is out or set apart, and which roots are
	// trusted. Nil: what the state directory says at the first question.
	Roll *pki.Roll
	// NodeLife is the life of the certificates given; 0: pki.NodeLife.
	NodeLife time.Duration
	// RequireApproval reports whether a person must approve every host, also
	// those whose token does not ask for it. Nil: no.
	RequireApproval func() bool

	// Seeds are signed node records for a new node to start with, the most
	// useful first (gateways); what does not fit an answer is left out.
	Seeds func() [][]byte
	// Introduce tells the mesh of a new certificate: the chain, without root.
	// It is called before the answer goes out.
	Introduce func(chain [][]byte)
	// Greeted is told of a member that greets and stands well, with its chain
	// without root: a gateway may have lost what it knew of it. Before the answer.
	Greeted func(id discovery.NodeID, chain [][]byte)

	// Named are the nodes of the mesh that have the name and did not leave, as
	// far as is known here; this gateway itself knows only those that joined
	// through it. It is called with the ledger's lock held, as are the next two.
	Named func(name string) []discovery.Identity
	// Alive reports whether a node is there. Nil: it is not known, and no name
	// is taken from a node that did not leave.
	Alive func(discovery.NodeID) bool
	// AddrInUse reports whether any node of the mesh has the overlay address.
	AddrInUse func(netip.Addr) bool

	// Replaced tells of a node whose name now belongs to another: the house
	// revokes it. After a crash it is told again.
	Replaced func(discovery.Identity)
	// Left tells of a node that wants to be no member any more: the house
	// revokes it, and calls [Release] where its address is from. It may be
	// told several times.
	Left func(discovery.Identity)

	// AWS lets AWS confirm a proof over the challenge. Nil: no host joins by
	// its AWS identity. It is called without any lock, at most 8 times at once.
	AWS      func(ctx context.Context, proof, challenge []byte) (AWSCaller, error)
	AWSRules []AWSRule // the first that fits counts

	// Streams takes connections that carry members' datagrams, and leave
	// enrolment at this door. Nil: none.
	Streams *Streams

	// History takes audit events. Nil: they are appended to the journal of the
	// state directory.
	History func(history.Event)
	Logger  *slog.Logger
}

// Streams are where connections with [StreamALPN] go.
type Streams struct {
	// Verify decides on the certificates that a node presents, its own first:
	// whose they are, and whether it may have a stream. It may be called several
	// times at once.
	Verify func(presented [][]byte) (discovery.Identity, error)
	// Serve has the connection until it returns, which it must do soon after ctx
	// has ended. NetConn leads from conn down to the TCP connection.
	Serve func(ctx context.Context, conn net.Conn, id discovery.Identity, from netip.AddrPort)
}

// AWSCaller is who AWS says that a proof comes from.
type AWSCaller struct {
	Account   string
	Partition string // aws, aws-cn, aws-us-gov
	Role      string // without its path; empty for users
	Session   string // the instance id, for the role of an EC2 instance
	ARN       string
}

// AWSRule lets hosts with an AWS identity join.
type AWSRule struct {
	Name      string // for the audit journal
	Account   string // 12 digits
	Partition string // "": aws
	Role      string // of IAM, without its path: a glob, see path.Match
	Site      string
	NodeRole  discovery.Role // "": server
	Names     []string       // globs; none: any name
	Ephemeral bool
	Subnets   []netip.Prefix // that its nodes may advertise; sorted
}
