package vpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"drawbridge/discovery"
)

// tablesPerCall: DescribeRouteTables needs no paging up to here.
const tablesPerCall = 100

// Options of the hand. API is required.
type Options struct {
	API API
	// Report receives the readings of all tables of the wish, sorted, after
	// every reading. It is called from Apply and owns the slice.
	Report func([]discovery.NextHop)
	Now    func() time.Time // stamps readings; nil means time.Now
	Logger *slog.Logger     // nil discards
}

// NextHops is the hand on VPC route tables. Apply is for one loop at a time.
type NextHops struct {
	opts Options
	last map[string]discovery.NextHop // last good reading, and newest error
}

// NewNextHops makes the hand; it calls nothing yet.
func NewNextHops(o Options) *NextHops {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &NextHops{opts: o, last: map[string]discovery.NextHop{}}
}

// Apply reads every table of wish.Read.Tables and of wish.NextHops, reports,
// and, with wish.Write, makes the route for the mesh prefix lead to the wished
// interface. It returns the number of routes changed, and the errors of all
// tables joined.
func (h *NextHops) Apply(ctx context.Context, wish discovery.CloudWish) (changed int, err error) {
	names, prefix := tablesOf(wish)
	tables, errs := h.read(ctx, names)
	h.note(names, prefix, tables, errs)
	h.report(names)
	failures := listed(names, errs)
	if !wish.Write {
		return 0, errors.Join(failures...)
	}
	var touched []string
	for _, w := range wish.NextHops {
		if errs[w.Table] != nil {
			continue
		}
		s, err := compare(tables[w.Table], w)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if s.action == "" {
			continue
		}
		touched = append(touched, w.Table)
		start := h.opts.Now()
		if err := h.do(ctx, s, w); err != nil {
			failures = append(failures, fmt.Errorf("%s in table %s: %w", s.action, w.Table, err))
			continue
		}
		changed++
		h.opts.Logger.Info("next hop changed", "table", w.Table, "endpoint", s.detail, "reason", w.Reason, "took", h.opts.Now().Sub(start))
	}
	if len(touched) > 0 && ctx.Err() == nil {
		// Also after a failure: a call that timed out may have been done.
		tables, errs = h.read(ctx, touched)
		h.note(touched, prefix, tables, errs)
		h.report(names)
		failures = append(failures, listed(touched, errs)...)
	}
	return changed, errors.Join(failures...)
}

// Calls returns what Apply would do now if it were allowed to write. It reads
// AWS but reports nothing, and may run beside Apply.
func (h *NextHops) Calls(ctx context.Context, wish discovery.CloudWish) ([]discovery.Call, error) {
	names, _ := tablesOf(wish)
	tables, errs := h.read(ctx, names)
	failures := listed(names, errs)
	var calls []discovery.Call
	for _, w := range wish.NextHops {
		if errs[w.Table] != nil {
			continue
		}
		s, err := compare(tables[w.Table], w)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if s.action != "" {
			calls = append(calls, discovery.Call{Service: service, Action: s.action, Object: w.Table, Detail: s.detail, Reason: w.Reason})
		}
	}
	return calls, errors.Join(failures...)
}

// do makes the one call. ReplaceRoute on a route that went meanwhile and
// CreateRoute on one that came are refused by AWS; the next Apply sees why.
func (h *NextHops) do(ctx context.Context, s step, w discovery.NextHopWish) error {
	table, dest, eni := aws.String(w.Table), aws.String(w.Prefix.Masked().String()), aws.String(w.ENI)
	if s.action == "CreateRoute" {
		return write(ctx, h.opts.API.CreateRoute, &ec2.CreateRouteInput{
			RouteTableId: table, DestinationCidrBlock: dest, NetworkInterfaceId: eni,
		})
	}
	return write(ctx, h.opts.API.ReplaceRoute, &ec2.ReplaceRouteInput{
		RouteTableId: table, DestinationCidrBlock: dest, NetworkInterfaceId: eni,
	})
}

// tablesOf names all tables of a wish, sorted, and the prefix to read: that
// of wish.Read, or the first wish's.
func tablesOf(wish discovery.CloudWish) ([]string, netip.Prefix) {
	names, prefix := slices.Clone(wish.Read.Tables), wish.Read.Prefix
	for _, w := range wish.NextHops {
		names = append(names, w.Table)
		if !prefix.IsValid() {
			prefix = w.Prefix
		}
	}
	slices.Sort(names)
	return slices.Compact(names), prefix
}

// read asks for tables in few calls. One table that does not exist spoils the
// whole call, so then each is asked for alone.
func (h *NextHops) read(ctx context.Context, names []string) (map[string]types.RouteTable, map[string]error) {
	tables, errs := map[string]types.RouteTable{}, map[string]error{}
	for chunk := range slices.Chunk(names, tablesPerCall) {
		err := h.readChunk(ctx, chunk, tables)
		// ErrRefused: one malformed id (InvalidRouteTableId.Malformed).
		if len(chunk) > 1 && (errors.Is(err, discovery.ErrNotFound) || errors.Is(err, discovery.ErrRefused)) {
			for _, name := range chunk {
				if err := h.readChunk(ctx, []string{name}, tables); err != nil {
					errs[name] = err
				}
			}
			continue
		}
		for _, name := range chunk {
			if err != nil {
				errs[name] = err
			}
		}
	}
	for _, name := range names {
		if _, ok := tables[name]; !ok && errs[name] == nil {
			errs[name] = fmt.Errorf("%w: the answer does not have table %s", discovery.ErrUnavailable, name)
		}
	}
	return tables, errs
}

func (h *NextHops) readChunk(ctx context.Context, names []string, into map[string]types.RouteTable) error {
	out, err := read(ctx, h.opts.API.DescribeRouteTables, &ec2.DescribeRouteTablesInput{RouteTableIds: names})
	if err != nil {
		return fmt.Errorf("describe route tables: %w", err)
	}
	for _, t := range out.RouteTables {
		if t.Routes == nil { // every table has at least its local route
			return fmt.Errorf("describe route tables: %w: table %s has no list of routes", discovery.ErrUnavailable, aws.ToString(t.RouteTableId))
		}
		into[aws.ToString(t.RouteTableId)] = t
	}
	return nil
}

// note keeps what was read: a failure keeps the last good reading.
func (h *NextHops) note(names []string, prefix netip.Prefix, tables map[string]types.RouteTable, errs map[string]error) {
	for _, name := range names {
		if err := errs[name]; err != nil {
			n := h.last[name]
			n.Table, n.Err = name, err.Error()
			h.last[name] = n
			continue
		}
		n := nextHop(tables[name], prefix)
		n.Read = h.opts.Now()
		h.last[name] = n
	}
}

func (h *NextHops) report(names []string) {
	kept := make(map[string]discovery.NextHop, len(names))
	out := make([]discovery.NextHop, 0, len(names))
	for _, name := range names {
		kept[name] = h.last[name]
		out = append(out, h.last[name])
	}
	h.last = kept
	if h.opts.Report != nil {
		h.opts.Report(out)
	}
}

// listed puts the errors of names in order, each once.
func listed(names []string, errs map[string]error) []error {
	var out []error
	for i, name := range names {
		if err := errs[name]; err != nil && (i == 0 || errs[names[i-1]] == nil || errs[names[i-1]].Error() != err.Error()) {
			out = append(out, err)
		}
	}
	return out
}
