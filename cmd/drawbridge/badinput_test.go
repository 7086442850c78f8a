package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
)

// refused checks a refusal: its code, and that standard error names cause and
// next step.
func refused(t *testing.T, code, want int, stderr string, parts ...string) {
	t.Helper()
	t.Logf("exit code %d: %s", code, stderr)
	if code != want {
		t.Errorf("exit code %d, want %d", code, want)
	}
	for _, p := range parts {
		if !strings.Contains(stderr, p) {
			t.Errorf("standard error does not say %q", p)
		}
	}
}

// contents are all files of a directory with their bytes. Lock files come and
// go; a directory that is missing holds nothing.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) == ".lock" {
			return err
		}
		b, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(b)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}

func unchanged(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the state directory was changed (-before +after):\n%s", diff)
	}
}

// twinPort is a port that is free in UDP and in TCP.
func twinPort(t *testing.T) uint16 {
	t.Helper()
	for range 20 {
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := p.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		p.Close()
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// newMesh makes a mesh by command and returns its gateway's state directory
// and port.
func newMesh(t *testing.T) (dir string, port uint16) {
	t.Helper()
	dir, port = filepath.Join(t.TempDir(), "gw"), twinPort(t)
	code, _, stderr := call(t, "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--state-dir", dir,
		"--prefix", "192.168.231.0/24", "--listen-port", fmt.Sprint(port), "--endpoint", "127.0.0.1")
	if code != exitOK {
		t.Fatalf("init: %s", stderr)
	}
	return dir, port
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// configFile writes a configuration for an agent without privilege.
func configFile(t *testing.T, lines ...string) string {
	t.Helper()
	return writeFile(t, "version: 1\nbackend: netstack\n"+strings.Join(lines, "\n")+"\n")
}

// said collects standard error of an agent that runs.
type said struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// runAgent runs an agent until the test ends and returns what it says, once it
// answers on its socket.
func runAgent(t *testing.T, dir string) *said {
	t.Helper()
	_, errs := runConfigured(t, dir)
	return errs
}

// runConfigured is runAgent with more lines of configuration. It returns the
// agent's socket too.
func runConfigured(t *testing.T, dir string, lines ...string) (sock string, errs *said) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	errs = new(said)
	sock = filepath.Join(t.TempDir(), "a.sock")
	file := configFile(t, append(lines, "socket: "+sock)...)
	done := make(chan int, 1)
	go func() {
		done <- execute(ctx, []string{"agent", "--config", file, "--state-dir", dir}, new(bytes.Buffer), errs)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("agent: exit code %d\n%s", code, errs.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if code, _, _ := call(t, "status", "--check", "live", "--socket", sock); code == exitOK {
			return sock, errs
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("agent: exit code %d\n%s", code, errs.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("the agent does not answer\n%s", errs.String())
	return "", nil
}

// startAgent runs an agent that must refuse to start.
func startAgent(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var errs bytes.Buffer
	code = execute(ctx, append([]string{"agent"}, args...), new(bytes.Buffer), &errs)
	return code, errs.String()
}

func TestBadTokens(t *testing.T) {
	t.Setenv(tokenEnv, "")
	gw, port := newMesh(t)
	runAgent(t, gw)
	create := func(t *testing.T) string {
		t.Helper()
		code, text, stderr := call(t, "token", "create", "--site", "idc", "--state-dir", gw)
		if code != exitOK {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(text)
	}
	// altered is a good token, after something was done to it or its entry.
	altered := func(t *testing.T, f func(*pki.Token, *statedir.Token)) string {
		t.Helper()
		tok, err := pki.ParseToken(create(t))
		if err != nil {
			t.Fatal(err)
		}
		d, err := statedir.Open(gw)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := d.Token(tok.ID)
		if err != nil {
			t.Fatal(err)
		}
		f(tok, &entry)
		if err := d.SetToken(entry); err != nil {
			t.Fatal(err)
		}
		return tok.Encode()
	}
	good := create(t)
	const copyLine, fresh = "copy the whole line", "on the gateway run `drawbridge token create`"
	used := create(t)
	if code, _, stderr := call(t, "join", "--token-file", writeFile(t, used), "--name", "first", "--state-dir", filepath.Join(t.TempDir(), "h")); code != exitOK {
		t.Fatal(stderr)
	}
	revoked := altered(t, func(_ *pki.Token, e *statedir.Token) { e.Revoked = true })
	expired := altered(t, func(_ *pki.Token, e *statedir.Token) { e.Expires = time.Now().Add(-time.Minute) })
	otherRoot := altered(t, func(k *pki.Token, _ *statedir.Token) { k.Pin[0] ^= 1 })
	otherPort := altered(t, func(k *pki.Token, _ *statedir.Token) { k.Addrs = []string{"127.0.0.1:1"} })

	for _, tt := range []struct {
		name  string
		token string
		args  string
		code  int
		want  []string
	}{
		{"empty", "", "", 1, []string{"it is empty", copyLine}},
		{"malformed", "hello", "", 1, []string{"not a drawbridge token", copyLine}},
		{"too long", strings.Repeat("x", 1<<14), "", 1, []string{"not a token", copyLine}},
		{"truncated", good[:len(good)/2], "", 1, []string{"cut short", copyLine}},
		{"damaged", good[:40] + "AAAA" + good[44:], "", 1, []string{"wrong checksum", copyLine}},
		{"newer version", "dbt9_abcd", "", 1, []string{"version 9", "install the newer version"}},
		{"other site", good, "--site elsewhere", 1, []string{`for site "idc", not "elsewhere"`, "create a token for this site"}},
		{"other role", good, "--role gateway", 1, []string{`for role "server", not "gateway"`, "create a token for this role"}},
		{"other root", otherRoot, "", 1, []string{"not a gateway of this mesh", "nothing was sent; check address"}},
		{"used", used, "", 1, []string{"used already (1 of 1)", fresh}},
		{"expired", expired, "", 1, []string{"expired at", fresh}},
		{"revoked", revoked, "", 1, []string{"was revoked", fresh}},
		{"name taken", good, "--name first", 1, []string{"another node has the name", "--name"}},
		{"nobody there", otherPort, "", 1, []string{"nothing listens there", "run the same command again"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "host")
			before := contents(t, dir)
			args := append([]string{"join", "--token-file", writeFile(t, tt.token), "--name", "gpu-1", "--state-dir", dir}, strings.Fields(tt.args)...)
			code, stdout, stderr := call(t, args...)
			refused(t, code, tt.code, stderr, tt.want...)
			if stdout != "" || tt.token != "" && strings.Contains(stderr, tt.token) {
				t.Errorf("standard output %q, or the token was printed", stdout)
			}
			unchanged(t, dir, before)
		})
	}
	t.Run("no file", func(t *testing.T) {
		code, _, stderr := call(t, "join", "--token-file", "/nonexistent", "--name", "gpu-1", "--state-dir", t.TempDir())
		refused(t, code, exitFailed, stderr, "/nonexistent", "with --token-file")
	})
	t.Run("the good one is still good", func(t *testing.T) {
		code, _, stderr := call(t, "join", "--token-file", writeFile(t, good), "--name", "gpu-1", "--state-dir", filepath.Join(t.TempDir(), "h"))
		if code != exitOK {
			t.Error(stderr)
		}
	})
	t.Run("ports taken", func(t *testing.T) {
		testPortsTaken(t, port)
	})
}

// testPortsTaken starts agents whose places are taken; port is that of an
// agent that runs.
func testPortsTaken(t *testing.T, port uint16) {
	sock := filepath.Join(t.TempDir(), "s.sock")
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tcp := netip.MustParseAddrPort(ln.Addr().String())
	held := standIn(t, nil)
	plain := writeFile(t, "precious")
	for _, tt := range []struct {
		name   string
		config []string
		want   []string
	}{
		{"wireguard", []string{fmt.Sprint("listen_port: ", port)}, []string{fmt.Sprint("UDP port ", port), "already in use", "another port"}},
		{"enrolment", []string{fmt.Sprint("listen_port: ", tcp.Port())}, []string{fmt.Sprint("TCP port ", tcp.Port()), "already in use", "listen_port"}},
		{"connect proxy", []string{"connect_proxy: " + tcp.String()}, []string{tcp.String(), "already in use", "connect_proxy"}},
		{"socket", []string{"socket: " + held}, []string{held, "another agent answers", "--socket"}},
		{"no socket", []string{"socket: " + plain}, []string{plain, "no socket", "--socket"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := newMesh(t)
			before := contents(t, dir)
			lines := tt.config
			if !strings.Contains(strings.Join(lines, "\n"), "socket:") {
				lines = append(lines, "socket: "+sock)
			}
			code, stderr := startAgent(t, "--config", configFile(t, lines...), "--state-dir", dir)
			refused(t, code, exitFailed, stderr, tt.want...)
			after := contents(t, dir)
			delete(after, "/peers.bin") // a cache
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("state (-before +after):\n%s", diff)
			}
		})
	}
	if b, err := os.ReadFile(plain); err != nil || string(b) != "precious" {
		t.Errorf("somebody's file is gone: %q, %v", b, err)
	}
}

// damages are what can happen to a state file.
var damages = []struct {
	name string
	do   func([]byte) []byte
	want string
}{
	{"empty", func([]byte) []byte { return nil }, "damaged: empty"},
	{"half-written", func(b []byte) []byte { return b[:len(b)*3/4] }, "damaged"},
	{"changed", func(b []byte) []byte { b[len(b)-3] ^= 1; return b }, "wrong checksum"},
	{"newer", func(b []byte) []byte { return bytes.Replace(b, []byte("state 1 "), []byte("state 2 "), 1) }, "version 2, want 1"},
}

func TestBadState(t *testing.T) {
	whole, _ := newMesh(t)
	damaged := func(t *testing.T, name string, do func([]byte) []byte) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "gw")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) { // a cache that is not there yet
			b = []byte("# drawbridge state 1 x 3 00\nabcd")
		} else if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, do(b), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	agentConfig := configFile(t, "socket: "+filepath.Join(t.TempDir(), "s.sock"))
	for _, name := range []string{"node.json", "identity.key", "wireguard.key", "chain.pem", "roots.pem"} {
		for _, d := range damages {
			t.Run(name+" "+d.name, func(t *testing.T) {
				dir := damaged(t, name, d.do)
				before := contents(t, dir)
				next := "restore it from a backup, or"
				if d.name == "newer" {
					next = "install the newer version again"
				}
				code, stderr := startAgent(t, "--config", agentConfig, "--state-dir", dir)
				refused(t, code, exitFailed, stderr, name, d.want, next)
				unchanged(t, dir, before)
			})
		}
	}
	t.Run("identity.key missing", func(t *testing.T) {
		dir := damaged(t, "node.json", func(b []byte) []byte { return b })
		if err := os.Remove(filepath.Join(dir, "identity.key")); err != nil {
			t.Fatal(err)
		}
		code, stderr := startAgent(t, "--config", agentConfig, "--state-dir", dir)
		refused(t, code, exitFailed, stderr, "identity.key", "does not exist", "restore the whole directory")
	})
	// What traffic does not need is told, and the agent runs.
	for name, next := range map[string]string{
		"peers.bin": "it is a cache: delete it", "endpoints.json": "it is a cache: delete it",
		"issuer.key": "restore it from a backup", "issuer.pem": "restore it from a backup",
		"allocations.json": "restore it from a backup", "root.key": "restore it from a backup",
	} {
		t.Run(name+" only warns", func(t *testing.T) {
			dir := damaged(t, name, func(b []byte) []byte { return b[:len(b)*3/4] })
			log := runAgent(t, dir).String()
			for _, want := range []string{name, "damaged", next} {
				if !strings.Contains(log, want) {
					t.Errorf("no %q in\n%s", want, log)
				}
			}
		})
	}
	t.Run("too open", func(t *testing.T) {
		dir := damaged(t, "node.json", func(b []byte) []byte { return b })
		for name, mode := range map[string]os.FileMode{"": 0o755, "root.key": 0o644, "identity.key": 0o640} {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		log := runAgent(t, dir).String()
		for _, name := range []string{"", "root.key", "identity.key"} {
			path := filepath.Join(dir, name)
			if !strings.Contains(log, path+" had mode") {
				t.Errorf("the repair of %s was not told:\n%s", path, log)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", path, st.Mode(), err)
			}
		}
	})
	t.Run("not a state directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := call(t, "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--prefix", "192.168.231.0/24", "--state-dir", dir)
		refused(t, code, exitFailed, stderr, "holds other files", "--state-dir")
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("somebody's directory was closed: %v, %v", st.Mode(), err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		code, stderr := startAgent(t, "--config", agentConfig, "--state-dir", "/nonexistent/dir")
		refused(t, code, exitFailed, stderr, "/nonexistent/dir", "drawbridge join")
	})
}

func TestBadConfiguration(t *testing.T) {
	dir, _ := newMesh(t)
	before := contents(t, dir)
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"unknown key", writeFile(t, "version: 1\nlisen_port: 7\n"), []string{":2:1: unknown key \"lisen_port\"", `did you mean "listen_port"?`}},
		{"bad value", writeFile(t, "version: 1\nbackend: tunn\n"), []string{":2:10: backend: \"tunn\"", "want auto, kernel, tun or netstack"}},
		{"missing", "/nonexistent.yaml", []string{"/nonexistent.yaml", "check the name"}},
		{"directory", t.TempDir(), []string{"a directory", "name the file in it"}},
		{"empty", writeFile(t, ""), []string{"empty", "version: 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stderr := startAgent(t, "--config", tt.file, "--state-dir", dir)
			refused(t, code, exitFailed, stderr, tt.want...)
		})
	}
	unchanged(t, dir, before)
}

// asWhomEnv makes the test binary run one command line instead of tests.
const asWhomEnv = "DRAWBRIDGE_TEST_COMMAND"

// TestMain lends the test binary to commands that need another user or network.
func TestMain(m *testing.M) {
	line := os.Getenv(asWhomEnv)
	if line == "" {
		os.Exit(m.Run())
	}
	if route := os.Getenv(asWhomEnv + "_ROUTE"); route != "" {
		if out, err := exec.Command("ip", "route", "add", "blackhole", route).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot add a route: %v %s", err, out)
			os.Exit(99)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	os.Exit(execute(ctx, strings.Fields(line), os.Stdout, os.Stderr))
}

// elsewhere runs one command line in a process of its own.
func elsewhere(t *testing.T, attr *syscall.SysProcAttr, route, line string) (code int, stderr string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user or to have another network")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), asWhomEnv+"="+line, asWhomEnv+"_ROUTE="+route)
	cmd.SysProcAttr = attr
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Skipf("cannot start a process like that here: %v", err)
	}
	if code = cmd.ProcessState.ExitCode(); code == 99 {
		t.Skip(errs.String())
	}
	return code, errs.String()
}

func TestNoPrivilege(t *testing.T) {
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	top, err := os.MkdirTemp("", "drawbridge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	if err := os.Chown(top, 65534, 65534); err != nil {
		t.Skip("needs root to give a directory away")
	}
	dir := filepath.Join(top, "state")
	if code, stderr := elsewhere(t, nobody, "", "init --mesh lab --site aws --name gw-a --state-dir "+dir); code != exitOK {
		t.Fatal(stderr)
	}
	write := func(name, text string) string {
		path := filepath.Join(top, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := twinPort(t)
	tun := write("tun.yaml", "version: 1\nbackend: tun\n")
	auto := write("auto.yaml", fmt.Sprintf("version: 1\nbackend: auto\nlisten_port: %d\nsocket: /proc/nowhere/a.sock\n", port))
	closed := write("closed.yaml", "version: 1\n")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	others, _ := newMesh(t)
	for _, tt := range []struct {
		name, line string
		code       int
		want       []string
	}{
		{"backend tun", "agent --config " + tun + " --state-dir " + dir, exitDenied, []string{"not permitted to create the interface", "CAP_NET_ADMIN", "netstack"}},
		{"auto falls back, socket refused", "agent --config " + auto + " --state-dir " + dir, exitFailed, []string{"backend=netstack", "no TUN device", "socket", "$DRAWBRIDGE_SOCKET"}},
		{"configuration", "agent --config " + closed + " --state-dir " + dir, exitDenied, []string{"closed.yaml", "permission denied", "run as its owner"}},
		{"state of another", "token list --state-dir " + others, exitDenied, []string{"permission denied", "run as its owner"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stderr := elsewhere(t, nobody, "", tt.line)
			refused(t, code, tt.code, stderr, tt.want...)
		})
	}
}

func TestPrefixClash(t *testing.T) {
	alone := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	t.Run("init", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "gw")
		code, stderr := elsewhere(t, alone, "10.99.4.0/24", "init --mesh lab --site aws --name gw-a --prefix 10.99.0.0/16 --state-dir "+dir)
		if code == exitOK {
			t.Skip("no TUN device here, so no route can clash")
		}
		refused(t, code, exitFailed, stderr, "10.99.4.0/24", "--prefix", "nothing was written")
		unchanged(t, dir, map[string]string{})
	})
	t.Run("agent", func(t *testing.T) {
		dir, _ := newMesh(t)
		before := contents(t, dir)
		file := writeFile(t, "version: 1\nbackend: tun\n")
		code, stderr := elsewhere(t, alone, "192.168.231.128/25", "agent --config "+file+" --state-dir "+dir)
		if strings.Contains(stderr, "TUN device") {
			t.Skip("no TUN device here")
		}
		refused(t, code, exitFailed, stderr, "192.168.231.128/25", "take that route away")
		unchanged(t, dir, before)
	})
}
