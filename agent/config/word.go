package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// word is a scalar of the file.
type word struct {
	text string
	kind ast.NodeType
}

// The functions below read a word. They return what they want instead when it
// is not that, and "" when it is.

func wordOf(n ast.Node) (word, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return word{text: n.Value, kind: ast.StringType}, true
	case *ast.LiteralNode:
		return word{text: n.Value.Value, kind: ast.StringType}, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return word{text: n.GetToken().Value, kind: n.Type()}, true
	}
	return word{}, false
}

// kindOf names a node for people.
func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case nil:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	default:
		if w, ok := wordOf(n); ok {
			return shown(w)
		}
		return "something else"
	}
}

func shown(w word) string {
	if r := []rune(w.text); len(r) > 60 {
		return strconv.Quote(string(r[:60]) + "...")
	}
	return strconv.Quote(w.text)
}

// text wants text of printable characters; empty is allowed.
func text(w word) (string, string) {
	if w.kind != ast.StringType {
		return "", "text (write it in quotes)"
	}
	for _, c := range w.text {
		if !strconv.IsPrint(c) {
			return "", "text of printable characters"
		}
	}
	return w.text, ""
}

// like wants text that a pattern matches.
func like(pattern *regexp.Regexp, want string) func(word) (string, string) {
	return func(w word) (string, string) {
		v, problem := text(w)
		if problem == "" && !pattern.MatchString(v) {
			problem = want
		}
		return v, problem
	}
}

// optional also allows the empty text, which means the zero value.
func optional[T any](read func(word) (T, string)) func(word) (T, string) {
	return func(w word) (T, string) {
		if w.kind == ast.StringType && w.text == "" {
			return *new(T), ""
		}
		v, problem := read(w)
		if problem != "" {
			problem += `, or ""`
		}
		return v, problem
	}
}

// oneOf wants one of a few words.
func oneOf[T ~string](words ...T) func(word) (T, string) {
	return func(w word) (T, string) {
		if w.kind == ast.StringType && slices.Contains(words, T(w.text)) {
			return T(w.text), ""
		}
		all := make([]string, 0, len(words))
		for _, w := range words {
			all = append(all, string(w))
		}
		return "", alternatives(all)
	}
}

func alternatives(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// integer wants a whole number between two bounds.
func integer[T ~int | ~uint16](least, most T) func(word) (T, string) {
	return func(w word) (T, string) {
		n, err := strconv.Atoi(w.text)
		if w.kind != ast.IntegerType || err != nil || n < int(least) || n > int(most) {
			return 0, fmt.Sprintf("a whole number from %d to %d", least, most)
		}
		return T(n), ""
	}
}

// integerOr0 is integer, and 0 for what is found out.
func integerOr0(least, most int) func(word) (int, string) {
	return func(w word) (int, string) {
		if w.kind == ast.IntegerType && w.text == "0" {
			return 0, ""
		}
		n, bad := integer(least, most)(w)
		if bad != "" {
			bad = "0, or " + bad
		}
		return n, bad
	}
}

var (
	port = integer[uint16](1, 65535)
	// portOrZero: 0 leaves it to what init or join decided.
	portOrZero = integer[uint16](0, 65535)
)

// duration wants a time with its unit between two bounds.
func duration(least, most time.Duration) func(word) (time.Duration, string) {
	return func(w word) (time.Duration, string) {
		d, err := time.ParseDuration(w.text)
		if err != nil || d < least || d > most {
			return 0, fmt.Sprintf("a time with its unit from %s to %s, like 500ms or 30s", short(least), short(most))
		}
		return d, ""
	}
}

// zeroOr also allows 0s.
func zeroOr(read func(word) (time.Duration, string)) func(word) (time.Duration, string) {
	return func(w word) (time.Duration, string) {
		if d, err := time.ParseDuration(w.text); err == nil && d == 0 {
			return 0, ""
		}
		d, problem := read(w)
		if problem != "" {
			problem = "0s or " + problem
		}
		return d, problem
	}
}

// short is a duration without the zero units that String appends.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func addrPort(w word) (netip.AddrPort, string) {
	a, err := netip.ParseAddrPort(w.text)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		return netip.AddrPort{}, "an address with port, like 203.0.113.10:51820"
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), ""
}

// endpointWord is an address, or a name to be resolved.
type endpointWord struct {
	addr netip.AddrPort
	name string // HOST:PORT
}

// nameShape is a DNS name (RFC 1123, section 2.1) with a port.
var nameShape = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?:[1-9][0-9]{0,4}$`)

// endpoint wants an address or a name that others can dial.
func endpoint(w word) (endpointWord, string) {
	const maxName = 120 // two of them fit a record
	if name := strings.ToLower(w.text); nameShape.MatchString(name) && len(name) <= maxName {
		_, p, _ := strings.Cut(name, ":")
		if _, err := strconv.ParseUint(p, 10, 16); err == nil && !strings.HasPrefix(name, "localhost:") {
			return endpointWord{name: name}, ""
		}
	}
	if _, problem := addrPort(w); problem != "" {
		return endpointWord{}, "an address or name with port, like 203.0.113.10:51820 or gw-a.example.com:51820"
	}
	a, problem := dialable(w)
	return endpointWord{addr: a}, problem
}

// dialable wants an address that others can dial.
func dialable(w word) (netip.AddrPort, string) {
	a, problem := addrPort(w)
	if ip := a.Addr(); problem == "" && (ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast()) {
		problem = "an address that other hosts can dial"
	}
	return a, problem
}

// listenAddr wants an address to listen on; without a host it is any of this
// host's.
func listenAddr(w word) (netip.AddrPort, string) {
	if strings.HasPrefix(w.text, ":") {
		w.text = "0.0.0.0" + w.text
	}
	a, problem := addrPort(w)
	if problem != "" {
		problem = `a port like ":443", or an address of this host with one`
	}
	return a, problem
}

func loopback(w word) (string, string) {
	a, problem := addrPort(w)
	if problem != "" || !a.Addr().IsLoopback() {
		return "", "a loopback address with port, like 127.0.0.1:1055 (whoever reaches it is inside the mesh)"
	}
	return a.String(), ""
}

// levels are the words of slog.Level that the agent logs at.
var levels = []string{"debug", "info", "warn", "error"}

func level(w word) (slog.Level, string) {
	var l slog.Level
	if !slices.Contains(levels, w.text) || l.UnmarshalText([]byte(w.text)) != nil {
		return 0, alternatives(levels)
	}
	return l, ""
}

func endpointURL(w word) (string, string) {
	v, problem := text(w)
	if problem != "" {
		return v, problem
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "a URL like https://host:port"
	}
	return v, ""
}

func yes(w word) (bool, string) {
	if w.kind != ast.BoolType || w.text != "true" {
		return false, "true (or leave the key out)"
	}
	return true, ""
}

func boolean(w word) (bool, string) {
	if w.kind != ast.BoolType || w.text != "true" && w.text != "false" {
		return false, "true or false"
	}
	return w.text == "true", ""
}

// Shapes of words. Sources: RFC 1123 section 2.1 (labels); IFNAMSIZ in
// linux/if.h; the Amazon Resource Name reference and the resource types of
// Elastic Load Balancing in the Service Authorization Reference.
var (
	labelShape  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	ifaceShape  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	socketShape = regexp.MustCompile(`^/.{1,106}$`) // sun_path holds 108 bytes
	pathShape   = regexp.MustCompile(`^/[!-~]{0,999}$`)
	regionShape = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	eniShape    = regexp.MustCompile(`^eni-[0-9a-z-]{1,32}$`)
	tableShape  = regexp.MustCompile(`^rtb-[0-9a-z-]{1,32}$`)
	ruleShape   = regexp.MustCompile(`^arn:aws[a-z-]*:elasticloadbalancing:([a-z0-9-]+):([0-9]{12}):listener-rule/(app|net)(/[A-Za-z0-9._-]+){2,4}$`)
	// An account has 12 digits; a role's name is letters, digits and +=,.@_-
	// (IAM, CreateRole). Patterns have * and ? besides.
	accountShape = regexp.MustCompile(`^[0-9]{12}$`)
	rolePattern  = regexp.MustCompile(`^[A-Za-z0-9+=,.@_*?-]{1,64}$`)
	namePattern  = regexp.MustCompile(`^[a-z0-9*?-]{1,63}$`)
	groupShape   = regexp.MustCompile(`^arn:aws[a-z-]*:elasticloadbalancing:([a-z0-9-]+):([0-9]{12}):targetgroup(/[A-Za-z0-9._-]+){2}$`)
)

const labelWant = "a DNS label: lower-case letters, digits and inner hyphens, at most 63"

var (
	label = like(labelShape, labelWant)
	// siteLabel is shorter: views of sites travel in pulses.
	siteLabel = func(w word) (string, string) {
		v, problem := label(w)
		if problem == "" && len(v) > 32 {
			problem = "at most 32 characters"
		}
		return v, problem
	}
)

// arnHome is region and account of an ARN of the shapes above.
func arnHome(arn string) string {
	m := ruleShape.FindStringSubmatch(arn)
	if m == nil {
		m = groupShape.FindStringSubmatch(arn)
	}
	if m == nil {
		return ""
	}
	return m[1] + " " + m[2]
}
