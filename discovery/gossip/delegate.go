package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"

	"drawbridge/discovery"
)

// delegate is what memberlist calls. It may hold memberlist's lock while it
// does, so nothing here calls memberlist.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta tells which record is newest.
func (d delegate) NodeMeta(int) []byte { return d.g.meta() }

// NotifyMsg gets nothing: the transport takes our frames, because it knows who
// sent them.
func (d delegate) NotifyMsg([]byte) {}

// GetBroadcasts gives the records and notices that are to be told.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	msgs := d.g.queue.GetBroadcasts(overhead, limit)
	return slices.DeleteFunc(msgs, func(b []byte) bool { return len(b) == 0 })
}

// LocalState gives all records, and to one who joins the chains too.
func (d delegate) LocalState(join bool) []byte { return d.g.state(join) }

// MergeRemoteState gets nothing, as NotifyMsg.
func (d delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive is the last gate, for what memberlist concludes on its own too:
// a name needs a verified record, and the address that is certified.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	addr, ok := addrOf(n.Addr)
	id, known := d.g.book.identity(discovery.NodeID(n.Name))
	if !known || !ok || id.Addr != addr || n.Port != d.g.opt.Port {
		return fmt.Errorf("no verified record for %s at %s", n.Name, addr)
	}
	return nil
}

// NotifyJoin, NotifyLeave and NotifyUpdate keep the states.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.g.mark(n.Name, discovery.StateAlive) }

func (d delegate) NotifyLeave(n *memberlist.Node) {
	state := discovery.StateDead
	if d.g.book.hasLeft(discovery.NodeID(n.Name)) {
		state = discovery.StateLeft
	}
	d.g.mark(n.Name, state)
}

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.mark(n.Name, discovery.StateAlive) }

// NotifyConflict tells of one name with two addresses: a certificate was
// issued again with another address while the old one is in use.
func (d delegate) NotifyConflict(held, other *memberlist.Node) {
	d.g.count.add(causeConflict, 1)
	d.g.log.Warn("one node with two addresses", "node", held.Name, "endpoint", other.Addr, "reason", string(causeConflict))
}

// broadcast is a frame on its way; a newer one of the same name replaces it.
// An empty one is never sent: it takes the place of what is to be told no more.
type broadcast struct {
	name string
	msg  []byte
	done func() // called when it is told no more; nil: nobody cares
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

// Invalidates is decided by name.
func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message is the frame.
func (b *broadcast) Message() []byte { return b.msg }

// Finished is called under the queue's lock.
func (b *broadcast) Finished() {
	if b.done != nil {
		b.done()
	}
}

// Name is the node's, or the notice's.
func (b *broadcast) Name() string { return b.name }

// ballast is never sent: it is larger than any datagram. While it is in the
// queue the queue is never empty, and so never begins to number again:
// TransmitLimitedQueue of memberlist v0.7.0 does so while entries are on loan,
// and of two entries with the same size and number, told as often, it forgets one.
var ballast [2 * largestMTU]byte

// logWriter brings memberlist's own log lines to slog: they describe its
// workings, so all are for debugging.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	if _, rest, ok := strings.Cut(line, "memberlist: "); ok {
		line = rest
	}
	w.log.Log(context.Background(), slog.LevelDebug, "memberlist", "err", line)
	return len(p), nil
}
