package enroll

import "strings"

// worse keeps the error that tells more: a gateway that answered in one round
// and hung up in the next is not "unreachable".
func worse(old, new *Error) *Error {
	if old != nil && old.Code != CodeUnreachable && new.Code == CodeUnreachable {
		return old
	}
	return new
}

// again reports whether another round could end otherwise.
func again(tried []*Error) bool {
	for _, e := range tried {
		if e.Code.passing() {
			return true
		}
	}
	return false
}

// summary is one error for all addresses.
func summary(tried []*Error) *Error {
	first := tried[0]
	same := true
	var lines []string
	for _, e := range tried {
		same = same && e.Code == CodeUnreachable
		lines = append(lines, e.Error())
		if e.Code != CodeUnreachable && first.Code == CodeUnreachable {
			first = e
		}
	}
	if !same {
		return first
	}
	return &Error{
		Code: CodeUnreachable, Text: "no gateway could be reached: " + strings.Join(lines, "; "),
		Next: "check that a gateway's agent runs and that TCP to these addresses is allowed; then run the same command again",
	}
}
