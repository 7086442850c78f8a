package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drawbridge/agent"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/tunnel"
)

// crashEnv makes the test binary one process that is to crash: MODE, DIR and
// PORT, with spaces between.
const crashEnv = "DRAWBRIDGE_TEST_CRASH"

// crash lives until it is killed, or panics by itself.
func crash(line string) error {
	f := strings.Fields(line)
	mode, h := f[0], host{name: "gw-a", dir: f[1]}
	port, err := strconv.ParseUint(f[2], 10, 16)
	if err != nil {
		return err
	}
	parent := os.Getppid()
	go func() { // a parent that is gone kills nobody
		for os.Getppid() == parent {
			time.Sleep(time.Second)
		}
		os.Exit(1)
	}()
	var out slog.Handler = slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})
	switch mode {
	case "join":
		text, err := os.ReadFile(filepath.Join(h.dir, "..", "token"))
		if err != nil {
			return err
		}
		token, err := pki.ParseToken(string(text))
		if err != nil {
			return err
		}
		_, err = enroll.Join(context.Background(), enroll.JoinOptions{
			StateDir: h.dir, Token: token, Name: "gpu-9", ListenPort: uint16(port), Waiting: func(string) { fmt.Println("waiting") },
		})
		return err
	case "leak":
		d, err := statedir.Open(h.dir)
		if err != nil {
			return err
		}
		key, err := d.IdentityKey()
		if err != nil {
			return err
		}
		leak([ed25519.SeedSize]byte(key.Seed()))
	case "panic":
		out = hazard{out, "UAPI: Updating private key"}
	}
	s := config.Default()
	s.Backend, s.ListenPort, s.Socket = tunnel.Netstack, uint16(port), h.socket()
	a, err := agent.New(agent.Options{Settings: s, StateDir: h.dir, Version: "test", Logger: slog.New(out)})
	if err != nil {
		return err
	}
	return a.Run(context.Background())
}

//go:noinline
func leak(key [ed25519.SeedSize]byte) {
	if len(os.Args) > 0 {
		panic("with a key among the arguments")
	}
	fmt.Println(key)
}

// hazard is a log that panics at a word: wherever in the agent that is said.
type hazard struct {
	slog.Handler
	at string
}

func (h hazard) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), h.at) {
			panic("the log breaks at " + h.at)
		}
		return true
	})
	return h.Handler.Handle(ctx, r)
}

func (h hazard) WithAttrs(as []slog.Attr) slog.Handler { return hazard{h.Handler.WithAttrs(as), h.at} }

func (h hazard) WithGroup(name string) slog.Handler { return hazard{h.Handler.WithGroup(name), h.at} }

// doomed is a process of its own.
type doomed struct {
	cmd *exec.Cmd
	err bytes.Buffer
	out bytes.Buffer
}

func doom(t *testing.T, mode string, h host, traceback string) *doomed {
	t.Helper()
	d := &doomed{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	d.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", crashEnv, mode, h.dir, h.port), "GOTRACEBACK="+traceback)
	d.cmd.Stderr, d.cmd.Stdout = &d.err, &d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	return d
}

// end waits for the end and returns what was said of it.
func (d *doomed) end(t *testing.T) []byte {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	if err := d.cmd.Wait(); err == nil || d.cmd.ProcessState.ExitCode() != 2 {
		t.Fatalf("ended with %v, want a crash\n%s", err, d.err.Bytes())
	}
	return d.err.Bytes()
}

func (d *doomed) quit(t *testing.T) []byte {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	return d.end(t)
}

// traces are the forms in which a crash prints bytes: one after the other as
// arguments of a function, or as words.
func traces(secret []byte) [][]byte {
	var out [][]byte
	for i := 0; i+4 <= len(secret); i++ {
		b := secret[i:]
		out = append(out, fmt.Appendf(nil, "0x%x, 0x%x, 0x%x, 0x%x", b[0], b[1], b[2], b[3]))
		if len(b) >= 8 {
			out = append(out, fmt.Appendf(nil, "0x%x", binary.LittleEndian.Uint64(b)), fmt.Appendf(nil, "0x%x", binary.BigEndian.Uint64(b)))
		}
	}
	return out
}

// Nobody attacks: an agent crashes, or a person asks it for its goroutines, and
// the text goes where texts go. No secret may be in it.
func TestAttackCrashTellsNoSecrets(t *testing.T) {
	t.Parallel()
	gw, gpu := newHost(t, "gw-a"), newHost(t, "gpu-1")
	found(t, gw)
	dumps := map[string][]byte{}
	up := func() {
		gw.until(t, "the gateway has a tunnel", memberIs("gpu-1", "alive"))
		eventually(t, 20*time.Second, "the gateway remembers it", func() bool {
			list, err := open(t, gw.dir).Peers()
			return err == nil && len(list) >= 2
		})
	}
	for i, level := range []string{"all", "system"} {
		d := doom(t, "run", gw, level)
		gw.until(t, "ready", ready("gw-a"))
		if i == 0 {
			gpu.mustJoin(t, gw.token(t, enroll.TokenOptions{}))
			gpu.start(t)
		}
		up()
		dumps["SIGQUIT, "+level] = d.quit(t)
		dumps["panic, "+level] = doom(t, "panic", gw, level).end(t)
	}
	leaked := doom(t, "leak", gw, "single").end(t)

	gw.start(t)
	gw.until(t, "ready", ready("gw-a"))
	token := gw.token(t, enroll.TokenOptions{Approval: true})
	joiner := newHost(t, "gpu-9")
	if err := os.WriteFile(filepath.Join(joiner.dir, "..", "token"), []byte(token.Encode()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := doom(t, "join", joiner, "system")
	eventually(t, 20*time.Second, "the joiner waits", func() bool {
		list, err := enroll.ListPending(gw.dir)
		return err == nil && len(list) == 1
	})
	dumps["SIGQUIT, join"] = d.quit(t)

	secrets := map[string][]byte{"token": tokenSecret(t, token.Encode())}
	for _, h := range []host{gw, joiner} {
		d := open(t, h.dir)
		for kind, read := range map[string]func() (ed25519.PrivateKey, error){"identity": d.IdentityKey, "issuer": d.IssuerKey, "root": d.RootKey} {
			if k, err := read(); err == nil {
				secrets[h.name+" "+kind] = k.Seed()
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		text := must(os.ReadFile(filepath.Join(h.dir, "wireguard.key")))(t)
		secrets[h.name+" wireguard"] = wireGuardSecret(t, text)
	}
	if len(secrets) != 7 {
		t.Errorf("%d secrets to look for, want 7", len(secrets))
	}
	for name, dump := range dumps {
		if n := bytes.Count(dump, []byte("\ngoroutine ")); n < 3 {
			t.Errorf("%s: %d goroutines told:\n%s", name, n, dump)
		}
		for what, secret := range secrets {
			for _, n := range append(needles(secret), traces(secret)...) {
				if i := bytes.Index(dump, n); i >= 0 {
					t.Errorf("%s has the secret %q in it: %q <%q>", name, what, dump[max(0, i-200):i], dump[i:i+100])
					break
				}
			}
		}
	}
	for _, name := range []string{"panic, all", "panic, system"} {
		if !bytes.Contains(dumps[name], []byte("(*Device).Apply(")) {
			t.Errorf("%s: not while the device was set:\n%s", name, dumps[name])
		}
	}
	// The search finds what is there.
	seen := false
	for _, n := range traces(secrets["gw-a identity"]) {
		seen = seen || bytes.Contains(leaked, n)
	}
	if !seen {
		t.Errorf("the search does not find a key among arguments:\n%s", leaked)
	}
}
