package lab

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel"
	"drawbridge/tunnel/userspace"
)

// A crowd's peers are added one by one this often.
const addOnes = 20

// restFor is how long a crowd is watched at rest.
const restFor = 10 * time.Second

// Crowd is what many peers cost a device.
type Crowd struct {
	AddAll time.Duration   `json:"add_all"` // ns
	AddOne []time.Duration `json:"add_one"` // ns, each on top of all
}

// measurePeers lets our TUN backend and bare wireguard-go carry few and many
// idle peers, in turns.
func measurePeers(ctx context.Context, opts Options, m Measure, r *Report) error {
	if opts.Mode != Namespaces {
		err := fmt.Errorf("%w: on %s there is no TUN device", ErrNeedsNamespaces, opts.Mode)
		r.Skipped = err.Error()
		return err
	}
	l, err := newTrack(ctx, opts, newCable)
	if err != nil {
		return err
	}
	return errors.Join(l.peers(ctx, m, r), l.Close())
}

func (l *Lab) peers(ctx context.Context, m Measure, r *Report) error {
	kinds := []string{"ours", "bare"}
	for i := range m.Runs {
		r.Runs++
		rss := map[string]float64{}
		for j := range 2 * len(kinds) {
			kind, count := kinds[(i+j)%len(kinds)], []int{10, m.Count}[j/len(kinds)]
			mb, err := l.crowd(ctx, kind, count, r)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				r.fail(i, fmt.Errorf("%s, %d peers: %w", kind, count, err))
				continue
			}
			rss[kind] = mb
		}
		if len(rss) == 2 {
			r.add(fmt.Sprintf("ours less bare, %d peers: memory", m.Count), "MB", rss["ours"]-rss["bare"])
		}
	}
	return nil
}

// crowd measures one device and returns its memory in MB.
func (l *Lab) crowd(ctx context.Context, kind string, count int, r *Report) (float64, error) {
	out := newSignalLine()
	p, err := l.crew.start(order{name: "crowd", host: cableLeft, args: []string{"lab", "crowd", kind, strconv.Itoa(count)}, stdout: out})
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.lower([]string{"crowd"}) }()
	select {
	case <-out.seen:
	case <-p.done:
		return 0, fmt.Errorf("ended: %w\n%s", p.err, logTail(p.log))
	case <-time.After(2 * time.Minute):
		return 0, errors.New("took longer than two minutes")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	var c Crowd
	if err := json.Unmarshal(out.line(), &c); err != nil {
		return 0, fmt.Errorf("read %q: %w", out.line(), err)
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	before, err := wakeUps(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	u0, err := l.usageOf("crowd")
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, restFor); err != nil {
		return 0, err
	}
	after, err := wakeUps(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	u, err := l.usageOf("crowd")
	if err != nil {
		return 0, err
	}
	what := fmt.Sprintf("%s, %d peers: ", kind, count)
	slices.Sort(c.AddOne)
	r.add(what+"memory", "MB", float64(u.rss)/1e6)
	r.add(what+"add all at once", "ms", ms(c.AddAll))
	r.add(what+"add one more", "ms", ms(quantile(c.AddOne, .5)))
	r.add(what+"wake-ups at rest", "1/s", float64(after-before)/restFor.Seconds())
	r.add(what+"CPU at rest", "% of one core", 100*float64(u.cpu-u0.cpu)/float64(restFor))
	l.say("%s%.1f MB, add all %s, add one %s, %.1f wake-ups/s", what, float64(u.rss)/1e6, c.AddAll, quantile(c.AddOne, .5), float64(after-before)/restFor.Seconds())
	return float64(u.rss) / 1e6, nil
}

// wakeUps counts how often the threads of a process have given up a CPU by
// themselves, which is how often they were woken (proc_pid_status(5)).
func wakeUps(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("count wake-ups: %w", err)
		}
		n, err := parseSwitches(string(b))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("count wake-ups: no process %d", pid)
	}
	return sum, nil
}

func parseSwitches(status string) (int64, error) {
	_, rest, ok := strings.Cut(status, "\nvoluntary_ctxt_switches:")
	if !ok {
		return 0, errors.New("count wake-ups: unexpected form of /proc/PID/status")
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// ServeCrowd makes a device with count idle peers, adds some more one by one,
// prints a [Crowd] as JSON, and rests until ctx ends. kind is "ours" or "bare".
func ServeCrowd(ctx context.Context, kind string, count int, out io.Writer) error {
	var (
		add  func(upTo int) error
		done func()
		err  error
	)
	switch kind {
	case "ours":
		add, done, err = ourCrowd(ctx)
	case "bare":
		add, done, err = bareCrowd()
	default:
		return fmt.Errorf("no crowd of kind %q", kind)
	}
	if err != nil {
		return err
	}
	defer done()
	var c Crowd
	began := time.Now()
	if err := add(count); err != nil {
		return err
	}
	c.AddAll = time.Since(began)
	for i := range addOnes {
		began := time.Now()
		if err := add(count + i + 1); err != nil {
			return err
		}
		c.AddOne = append(c.AddOne, time.Since(began))
	}
	// What the device keeps, not what adding needed.
	runtime.GC()
	debug.FreeOSMemory()
	if err := json.NewEncoder(out).Encode(c); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func crowdPeer(i int) tunnel.Peer {
	a := netip.AddrFrom4([4]byte{10, 99, byte((i + 2) >> 8), byte(i + 2)})
	return tunnel.Peer{Key: tunnel.Key(sha256.Sum256([]byte(strconv.Itoa(i)))), AllowedIPs: []netip.Prefix{netip.PrefixFrom(a, 32)}}
}

func ourCrowd(ctx context.Context) (add func(int) error, done func(), err error) {
	key, err := tunnel.NewPrivateKey()
	if err != nil {
		return nil, nil, err
	}
	c := tunnel.Config{PrivateKey: key, Addr: bareGateway.Addr(), Mesh: netip.MustParsePrefix("10.99.0.0/16"), MTU: overlayMTU}
	d := userspace.New(userspace.Options{})
	if err := d.Apply(ctx, c); err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return func(upTo int) error {
		for len(c.Peers) < upTo {
			c.Peers = append(c.Peers, crowdPeer(len(c.Peers)))
		}
		return d.Apply(ctx, c)
	}, func() { _ = d.Close() }, nil
}

func bareCrowd() (add func(int) error, done func(), err error) {
	t, err := tun.CreateTUN(bareInterface, overlayMTU)
	if err != nil {
		return nil, nil, fmt.Errorf("make interface: %w", err)
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	key, err := tunnel.NewPrivateKey()
	if err == nil {
		err = errors.Join(d.IpcSet("private_key="+key.Hex()+"\n"), addressLink(bareInterface, bareGateway), d.Up())
	}
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	have := 0
	return func(upTo int) error {
		var b strings.Builder
		for ; have < upTo; have++ {
			p := crowdPeer(have)
			fmt.Fprintf(&b, "public_key=%s\nallowed_ip=%s\n", p.Key.Hex(), p.AllowedIPs[0])
		}
		return d.IpcSet(b.String())
	}, d.Close, nil
}
