package conflict

import (
	"bytes"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

type (
	chainID struct {
		family nftables.TableFamily
		table  string
		name   string
	}
	setID chainID
)

// set is a set or verdict map as the kernel has it.
type set struct {
	elements []nftables.SetElement
	interval bool
	known    bool // false: it could not be read, or has more than one key
}

// reader fetches what it needs of the rules, once.
type reader struct {
	conn  *nftables.Conn
	rules map[chainID][]*nftables.Rule
	sets  map[setID]*set
	steps int
}

const (
	maxDepth = 16      // of jumps, as in the kernel (NFT_JUMP_STACK_SIZE)
	maxSteps = 100_000 // rules looked at; beyond, every packet may pass
)

// fate is what may become of a packet in a chain.
type fate struct {
	accepted bool // it may be accepted there for good
	falls    bool // it may come out at the end, or return
}

// open is the fate of a packet of which nothing is certain.
var open = fate{accepted: true, falls: true}

// mayPass reports whether a packet may get through a base chain. Rules that are
// not understood may let it.
func (r *reader) mayPass(ch *nftables.Chain, p *packet) bool {
	f := r.walk(ch.Table, ch.Name, p, 0)
	return f.accepted || f.falls && (ch.Policy == nil || *ch.Policy == nftables.ChainPolicyAccept)
}

func (r *reader) walk(t *nftables.Table, name string, p *packet, depth int) fate {
	rules, ok := r.chain(t, name)
	if !ok || depth > maxDepth {
		return open
	}
	var f fate
	for _, rule := range rules {
		if r.steps++; r.steps > maxSteps {
			return open
		}
		match, verdict := r.rule(t, rule, p)
		if match == no {
			continue
		}
		if r.judge(t, match, verdict, p, depth, &f) {
			return f
		}
	}
	f.falls = true
	return f
}

// judge takes a rule's verdict into account, and reports whether nothing behind
// the rule can matter.
func (r *reader) judge(t *nftables.Table, match answer, v *expr.Verdict, p *packet, depth int, f *fate) (done bool) {
	if v == nil {
		return false
	}
	certain := match == yes
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictQueue, expr.VerdictStolen, expr.VerdictStop, expr.VerdictRepeat:
		f.accepted = true
		return certain
	case expr.VerdictDrop:
		return certain
	case expr.VerdictReturn:
		f.falls = true
		return certain
	case expr.VerdictJump, expr.VerdictGoto:
		sub := r.walk(t, v.Chain, p, depth+1)
		f.accepted = f.accepted || sub.accepted
		if v.Kind == expr.VerdictGoto {
			f.falls = f.falls || sub.falls
			return certain
		}
		return certain && !sub.falls
	}
	return false
}

// chain fetches the rules of a chain.
func (r *reader) chain(t *nftables.Table, name string) ([]*nftables.Rule, bool) {
	id := chainID{t.Family, t.Name, name}
	if rules, ok := r.rules[id]; ok {
		return rules, rules != nil
	}
	rules, err := r.conn.GetRules(t, &nftables.Chain{Name: name, Table: t})
	if err != nil {
		rules = nil
	} else if rules == nil {
		rules = []*nftables.Rule{}
	}
	r.rules[id] = rules
	return rules, rules != nil
}

// set fetches a set.
func (r *reader) set(t *nftables.Table, name string) *set {
	id := setID{t.Family, t.Name, name}
	if s, ok := r.sets[id]; ok {
		return s
	}
	s := &set{}
	r.sets[id] = s
	have, err := r.conn.GetSetByName(t, name)
	if err != nil || have.Concatenation || have.Dynamic {
		return s
	}
	have.Table = t
	if s.elements, err = r.conn.GetSetElements(have); err != nil {
		return s
	}
	s.interval, s.known = have.Interval, true
	slices.SortStableFunc(s.elements, func(a, b nftables.SetElement) int {
		c := bytes.Compare(a.Key, b.Key)
		if c == 0 && a.IntervalEnd != b.IntervalEnd { // one interval ends where the next begins
			if a.IntervalEnd {
				return -1
			}
			return 1
		}
		return c
	})
	return s
}

// rule tells whether a rule matches, and its verdict; nil: it goes on.
func (r *reader) rule(t *nftables.Table, rule *nftables.Rule, p *packet) (answer, *expr.Verdict) {
	match := yes
	regs := map[uint32]value{}
	for _, e := range rule.Exprs {
		m := yes
		switch e := e.(type) {
		case *expr.Meta:
			if !e.SourceRegister {
				regs[e.Register] = p.meta(e.Key)
			}
		case *expr.Payload:
			regs[e.DestRegister] = p.load(e)
		case *expr.Ct:
			regs[e.Register] = connection(e.Key)
		case *expr.Bitwise:
			regs[e.DestRegister] = regs[e.SourceRegister].masked(e)
		case *expr.Cmp:
			m = regs[e.Register].compare(e)
			// What is loaded by an expression that this does not know of would
			// otherwise be compared as what was there before.
			delete(regs, e.Register)
		case *expr.Lookup:
			var v *expr.Verdict
			m, v = regs[e.SourceRegister].lookup(r.set(t, e.SetName), e)
			delete(regs, e.SourceRegister)
			if e.IsDestRegSet {
				return r.mapped(match, m, v)
			}
		case *expr.Match:
			m = p.match(e)
		case *expr.Verdict:
			return match, e
		case *expr.Reject:
			return match, &expr.Verdict{Kind: expr.VerdictDrop}
		case *expr.Target:
			return match, target(e)
		case *expr.Counter, *expr.Log, *expr.Immediate, *expr.NAT, *expr.Masq, *expr.Redir:
		default: // limits, queues, quotas and the like
			m = maybe
		}
		if match = match.and(m); match == no {
			return no, nil
		}
	}
	return match, nil
}

// connection is what is known of a connection that opens, and that nobody has
// translated.
func connection(key expr.CtKey) value {
	switch key {
	case expr.CtKeySTATE:
		return known(native(expr.CtStateBitNEW)...)
	case expr.CtKeySTATUS:
		return known(native(0)...)
	}
	return value{}
}

// mapped is a rule that ends in a verdict map. A key that is not certain may
// mean any of its verdicts.
func (r *reader) mapped(match, m answer, v *expr.Verdict) (answer, *expr.Verdict) {
	if m == maybe {
		return maybe, &expr.Verdict{Kind: expr.VerdictAccept}
	}
	return match.and(m), v
}

// target is the verdict of an iptables extension.
func target(e *expr.Target) *expr.Verdict {
	switch e.Name {
	case "REJECT", "DROP":
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case "LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "SET", "TRACE", "CLASSIFY":
		return nil
	}
	return &expr.Verdict{Kind: expr.VerdictAccept}
}

// answer is whether something matches.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func (a answer) and(b answer) answer { return min(a, b) }

func (a answer) not() answer { return yes - a }

func truth(b bool) answer {
	if b {
		return yes
	}
	return no
}

// protocols of the metas that are always known.
var (
	protocolIPv4 = []byte{0x08, 0x00}
	familyIPv4   = []byte{unix.NFPROTO_IPV4}
)
