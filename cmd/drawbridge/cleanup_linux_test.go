package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// apartment is a thread with a network of its own. Processes started on it
// share that.
type apartment struct{ calls chan func() }

func newApartment(t *testing.T) *apartment {
	t.Helper()
	a := &apartment{make(chan func())}
	made := make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its network
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- err
		if err != nil {
			return
		}
		for f := range a.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	t.Cleanup(func() { close(a.calls); <-done })
	return a
}

func (a *apartment) do(t *testing.T, f func() error) {
	t.Helper()
	err := make(chan error)
	a.calls <- func() { err <- f() }
	if err := <-err; err != nil {
		t.Fatal(err)
	}
}

// start starts a command line there.
func (a *apartment) start(t *testing.T, out *said, line string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), asWhomEnv+"="+line)
	cmd.Stdout, cmd.Stderr = out, out
	a.do(t, cmd.Start)
	return cmd
}

func (a *apartment) run(t *testing.T, line string) (code int, text string) {
	t.Helper()
	var out said
	cmd := a.start(t, &out, line)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String()
}

// network is everything of a network that an agent could have touched, in
// words: interfaces, addresses, routes of all tables, rules, nft tables.
func (a *apartment) network(t *testing.T) (out []string) {
	t.Helper()
	a.do(t, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			out = append(out, fmt.Sprintf("link %s %s %q group %d", l.Attrs().Name, l.Type(), l.Attrs().Alias, l.Attrs().Group))
			addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, x := range addrs {
				if x.IP.IsLinkLocalUnicast() {
					continue // the kernel's own, in its own time
				}
				out = append(out, "addr "+l.Attrs().Name+" "+x.IPNet.String())
			}
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Dst != nil && (r.Dst.IP.IsLinkLocalUnicast() || r.Dst.IP.IsMulticast()) {
					continue
				}
				out = append(out, fmt.Sprintf("route %v table %d protocol %d", r.Dst, r.Table, r.Protocol))
			}
			rules, err := netlink.RuleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				out = append(out, fmt.Sprintf("rule %d %v mark %d table %d", r.Priority, r.Src, r.Mark, r.Table))
			}
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		for _, x := range tables {
			out = append(out, fmt.Sprintf("nft table %d %s", x.Family, x.Name))
		}
		return err
	})
	slices.Sort(out)
	return out
}

// furnish puts in what is somebody else's, near to what is ours.
func (a *apartment) furnish(t *testing.T) {
	t.Helper()
	a.do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "far0"}
		veth.Name = "eth0"
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		for _, name := range []string{"eth0", "far0"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		addr, err := netlink.ParseAddr("192.0.2.1/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(veth, addr); err != nil {
			return err
		}
		dst, err := netlink.ParseIPNet("198.51.100.0/24")
		if err != nil {
			return err
		}
		for _, table := range []int{unix.RT_TABLE_MAIN, 52} {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Attrs().Index, Dst: dst, Table: table, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Mark = 5210, 52, 7
		if err := netlink.RuleAdd(rule); err != nil {
			return err
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(&nftables.Table{Name: "drawbridge-not", Family: nftables.TableFamilyINet})
		return c.Flush()
	})
}

// TestCleanupAfterKill: whatever the backend, an agent that was killed leaves
// nothing that `cleanup` does not remove, and that touches nothing else.
func TestCleanupAfterKill(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to have another network")
	}
	for _, backend := range []string{"kernel", "tun", "netstack"} {
		t.Run(backend, func(t *testing.T) { cleanupAfterKill(t, backend) })
	}
}

func cleanupAfterKill(t *testing.T, backend string) {
	a := newApartment(t)
	a.furnish(t)
	before := a.network(t)
	dir, port := newMesh(t)
	sock := filepath.Join(t.TempDir(), "a.sock")
	file := writeFile(t, fmt.Sprintf("version: 1\nbackend: %s\nlisten_port: %d\nsocket: %s\n", backend, port, sock))
	var out said
	agent := a.start(t, &out, "agent --config "+file+" --state-dir "+dir)
	defer func() { _ = agent.Process.Kill(); _ = agent.Wait() }()
	up := false
	for end := time.Now().Add(15 * time.Second); !up && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := agent.Process.Signal(unix.Signal(0)); err != nil || strings.Contains(out.String(), "no WireGuard") || strings.Contains(out.String(), "not permitted to create the interface") {
			if backend == "kernel" && os.Getenv("DRAWBRIDGE_KERNEL") != "" { // make test-kernel
				t.Fatal(out.String())
			}
			t.Skipf("this backend does not work here: %s", out.String())
		}
		code, _, _ := call(t, "status", "--socket", sock)
		up = (code == exitOK || code == exitDegraded) && (backend == "netstack" || slices.ContainsFunc(a.network(t), func(s string) bool { return strings.HasSuffix(s, " drawbridge") }))
	}
	if !up {
		t.Fatalf("the agent does not come up: %s", out.String())
	}
	if backend != "netstack" && !slices.ContainsFunc(a.network(t), func(s string) bool { return strings.Contains(s, "drawbridge0") }) {
		t.Fatalf("no interface in %v", a.network(t))
	}
	clean := "cleanup --config " + file + " --state-dir " + dir
	if code, text := a.run(t, clean); code == exitOK || !strings.Contains(text, "pid") {
		t.Errorf("cleanup under a running agent: exit code %d, %s", code, text)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()

	left := a.network(t)
	if code, text := a.run(t, clean+" --dry-run"); code != exitOK {
		t.Errorf("cleanup --dry-run: exit code %d, %s", code, text)
	}
	if now := a.network(t); !slices.Equal(left, now) {
		t.Errorf("--dry-run changed the network:\n%s\nto\n%s", strings.Join(left, "\n"), strings.Join(now, "\n"))
	}
	code, text := a.run(t, clean+" --json")
	var got cleaned
	if err := json.Unmarshal([]byte(text), &got); code != exitOK || err != nil || got.SchemaVersion != 1 {
		t.Fatalf("cleanup --json: exit code %d, %v: %s", code, err, text)
	}
	want := map[string]int{"kernel": 2, "tun": 1, "netstack": 0}[backend] // a TUN goes with its process
	if len(got.Removed) != want {
		t.Errorf("removed %q, want %d things", got.Removed, want)
	}
	if now := a.network(t); !slices.Equal(before, now) {
		t.Errorf("the network was\n%s\nand is now\n%s", strings.Join(before, "\n"), strings.Join(now, "\n"))
	}
	if code, text := a.run(t, clean); code != exitOK || !strings.Contains(text, "clean: ") {
		t.Errorf("cleanup of a clean host: exit code %d, %s", code, text)
	}
}

// TestAutoSaysWhy: the best backend that works, with the reason against each
// better one; and one that needs nothing clears what one of another backend
// left when it was killed.
func TestAutoSaysWhy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to have another network")
	}
	for _, c := range []struct{ wish, want string }{
		{"auto", map[bool]string{true: "kernel (the kernel's WireGuard works here)", false: "not the kernel: this kernel has no WireGuard"}[os.Getenv("DRAWBRIDGE_KERNEL") != ""]},
		{"netstack", "netstack (configured)"},
	} {
		t.Run(c.wish, func(t *testing.T) {
			a := newApartment(t)
			a.furnish(t)
			before := a.network(t)
			if c.wish == "netstack" {
				a.do(t, func() error {
					return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "drawbridge0"}, Mode: netlink.TUNTAP_MODE_TUN})
				})
			}
			dir, port := newMesh(t)
			sock := filepath.Join(t.TempDir(), "a.sock")
			file := writeFile(t, fmt.Sprintf("version: 1\nbackend: %s\nlisten_port: %d\nsocket: %s\n", c.wish, port, sock))
			var out said
			agent := a.start(t, &out, "agent --config "+file+" --state-dir "+dir)
			defer func() { _ = agent.Process.Kill(); _ = agent.Wait() }()
			said := ""
			for end := time.Now().Add(15 * time.Second); !strings.Contains(said, "backend ") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				_, said, _ = call(t, "status", "--socket", sock)
			}
			if os.Getenv("DRAWBRIDGE_KERNEL") == "" && strings.Contains(said, "kernel's WireGuard works here") {
				t.Skip("this kernel has WireGuard")
			}
			if !strings.Contains(said, c.want) {
				t.Errorf("status says\n%s\nwant %q", said, c.want)
			}
			if c.wish == "netstack" && !slices.Equal(before, a.network(t)) {
				t.Errorf("the left-over stays: %v", a.network(t))
			}
		})
	}
}

// TestCleanupRefusesWhatIsNotOurs: an interface of this name that no agent made.
func TestCleanupRefusesWhatIsNotOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to have another network")
	}
	a := newApartment(t)
	a.furnish(t)
	before := a.network(t)
	dir := t.TempDir()
	for _, extra := range []string{"", " --dry-run"} {
		code, text := a.run(t, "cleanup --interface eth0 --state-dir "+filepath.Join(dir, "none")+extra)
		refused(t, code, exitFailed, text, "eth0", "not ours")
	}
	if now := a.network(t); !slices.Equal(before, now) {
		t.Errorf("something changed: %v", now)
	}
}
