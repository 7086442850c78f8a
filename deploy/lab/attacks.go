package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"drawbridge/agent/enroll"
)

// attacks are the kinds of hostile connections, in turns.
var attacks = []struct {
	kind string
	do   func(*attacker, context.Context, int) end
}{
	{"silent", (*attacker).silent},
	{"ClientHello in single bytes", (*attacker).dribble},
	{"no TLS", (*attacker).junk},
	{"oversized ClientHello", (*attacker).oversizedHello},
	{"oversized frame", (*attacker).oversizedFrame},
	{"unknown token", (*attacker).unknownToken},
}

// open connects from the i-th address. Without a connection it says how the
// attempt ended: a queue that is full drops it without a word.
func (a *attacker) open(ctx context.Context, i int) (net.Conn, end) {
	c, err := dialFrom(stranger(a.From, i), a.Gateway)(ctx, "")
	if err == nil {
		deadline, _ := ctx.Deadline()
		_ = c.SetDeadline(deadline)
		return c, refused
	}
	if isOurs(err) {
		return nil, broken
	}
	return nil, refused
}

// ownErrors are what an attacker's host lacks when it cannot open a connection.
var ownErrors = []error{
	syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.ENETUNREACH, syscall.EHOSTUNREACH,
}

// isOurs tells errors of the attacker's own host.
func isOurs(err error) bool {
	return slices.ContainsFunc(ownErrors, func(e error) bool { return errors.Is(err, e) })
}

// drain reads until the gateway ends the connection.
func drain(c net.Conn) end {
	_, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	if isTimeout(err) {
		return held
	}
	return refused
}

// silent says nothing. The kernel of a gateway holds it back for a second.
func (a *attacker) silent(ctx context.Context, i int) end {
	c, how := a.open(ctx, i)
	if c == nil {
		return how
	}
	defer c.Close()
	return drain(c)
}

// dribble sends what looks like a ClientHello, a byte every 50 ms.
func (a *attacker) dribble(ctx context.Context, i int) end {
	c, how := a.open(ctx, i)
	if c == nil {
		return how
	}
	defer c.Close()
	for _, b := range helloHead(512, 512) {
		if _, err := c.Write([]byte{b}); err != nil {
			return refused
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return held
		}
	}
	return drain(c)
}

// helloHead is a TLS record of a ClientHello (RFC 8446, sections 5.1 and 4)
// that announces one length and carries so many zeros.
func helloHead(announced, carried int) []byte {
	n, body := announced+4, announced
	b := []byte{22, 3, 1, byte(n >> 8), byte(n), 1, byte(body >> 16), byte(body >> 8), byte(body)}
	return append(b, make([]byte, carried)...)
}

// junk speaks no TLS.
func (a *attacker) junk(ctx context.Context, i int) end {
	c, how := a.open(ctx, i)
	if c == nil {
		return how
	}
	defer c.Close()
	b := make([]byte, 512)
	_, _ = rand.Read(b)
	b[0] = 'G'
	if _, err := c.Write(b); err != nil {
		return refused
	}
	return drain(c)
}

// oversizedHello announces the longest record of TLS and sends it.
func (a *attacker) oversizedHello(ctx context.Context, i int) end {
	c, how := a.open(ctx, i)
	if c == nil {
		return how
	}
	defer c.Close()
	if _, err := c.Write(helloHead(16380, 16380)); err != nil {
		return refused
	}
	return drain(c)
}

// oversizedFrame completes the handshake, announces 4 GB and sends on.
func (a *attacker) oversizedFrame(ctx context.Context, i int) end {
	c, how := a.open(ctx, i)
	if c == nil {
		return how
	}
	defer c.Close()
	t := tls.Client(c, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"drawbridge-enroll/1"},
		InsecureSkipVerify: true, // an attacker does not care whom he attacks
	})
	if err := t.HandshakeContext(ctx); err != nil {
		return endOf(err)
	}
	block := make([]byte, 4<<10)
	for j := range block {
		block[j] = 0xff
	}
	for range 64 {
		if _, err := t.Write(block); err != nil {
			return endOf(err)
		}
	}
	_, err := t.Read(block)
	return endOf(err)
}

// endOf reads an error of a connection that was open.
func endOf(err error) end {
	switch {
	case err == nil:
		return admitted
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return held
	}
	return refused
}

// unknownToken asks to join as an honest host does, with a token that was never
// made at this gateway.
func (a *attacker) unknownToken(ctx context.Context, i int) end {
	dir := filepath.Join(a.Dir, fmt.Sprint(i))
	defer func() { _ = os.RemoveAll(dir) }()
	// Whoever is turned away at the door tries again; an attack does so by itself.
	dial := dialFrom(stranger(a.From, i), a.Gateway)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dials, how := 0, refused
	_, err := enroll.Join(ctx, enroll.JoinOptions{
		StateDir: dir, Token: a.token, Name: "foreign-" + fmt.Sprint(i),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if dials++; dials > 1 {
				cancel()
				return nil, errors.New("one try is enough")
			}
			c, err := dial(ctx, addr)
			if isOurs(err) {
				how = broken
			}
			return c, err
		},
	})
	if err == nil {
		return admitted
	}
	return how
}
