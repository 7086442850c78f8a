package enroll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func skewed(here, there time.Time) *Error {
	d, word := here.Sub(there).Round(time.Second), "ahead of"
	if d < 0 {
		d, word = -d, "behind"
	}
	return &Error{
		Code: CodeClockSkew,
		Text: fmt.Sprintf("this host's clock (%s) is %s %s the gateway's (%s)", here.UTC().Format(time.RFC3339), d, word, there.UTC().Format(time.RFC3339)),
		Next: "set the clock that is wrong (timedatectl set-ntp true) and run the same command again; nothing was changed",
	}
}

// unreachable says in which way an address could not be reached.
func unreachable(addr string, err error) *Error {
	e := &Error{Code: CodeUnreachable, Text: addr, Err: err}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Text += ": the name does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Text += ": nothing listens there (is the agent running on the gateway?)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		e.Text += ": no answer in time (does the security group allow this TCP port?)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Text += ": the other end hung up (busy, or not drawbridge)"
	}
	return e
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// printable keeps a stranger's text from playing with the terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return s
}
