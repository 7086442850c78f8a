package enroll

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime/metrics"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRefusal floods a server from another process, from a thousand
// networks, and says what one refused connection costs the server (all of its
// process: CPU-us/refusal), what all of them cost (cores), by how much a 20 ms
// ticker in the server's process was late at worst (tick-ms, and tick-p99-ms),
// its memory (MB), and how long an honest host took to join (join-ms). In a
// crowd most are refused before they get far; a few by few they get to where
// they are refused for what they do.
func BenchmarkRefusal(b *testing.B) {
	for i, a := range attacks {
		if a.name != "gone at once" { // the kernel keeps them
			b.Run(a.name+"/crowd", func(b *testing.B) { benchFlood(b, i, 600, "many") })
		}
		if !a.waits {
			b.Run(a.name+"/few", func(b *testing.B) { benchFlood(b, i, 4, "many") })
		}
	}
	b.Run("at the door", func(b *testing.B) { benchFlood(b, 6, 600, "one") })
	b.Run("none", func(b *testing.B) { benchFlood(b, -1, 0, "") })
}

func benchFlood(b *testing.B, kind, workers int, sources string) {
	s := newServing(b)
	child := exec.Command(os.Args[0], "-test.run=^TestFloodChild$")
	child.Env = append(os.Environ(), "FLOOD_KIND="+strconv.Itoa(kind), "FLOOD_ADDR="+s.addr, "FLOOD_WORKERS="+strconv.Itoa(workers), "FLOOD_SOURCES="+sources)
	stdin, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = child.Wait()
	}()
	// An attacker is another machine: it must not take this one's cores.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, child.Process.Pid, 19)
	ended := func() uint64 {
		c := s.srv.Counters()
		n := c["refused-source"] + c["refused-network"] + c["refused-full"]
		s.srv.limit.mu.Lock()
		defer s.srv.limit.mu.Unlock()
		return n + c["accepted"] - uint64(s.srv.limit.conns)
	}
	if kind >= 0 {
		waitFor(b, "the flood", func() bool { return ended() > 100 })
	}
	tick := startTicker()
	b.ResetTimer()
	begin, used, was := time.Now(), cpuTime(b), ended()
	most := uint64(0)
	var joined time.Duration
	for ended()-was < uint64(b.N) && (kind >= 0 || time.Since(begin) < time.Duration(b.N)*time.Microsecond) {
		time.Sleep(50 * time.Millisecond)
		most = max(most, memory())
	}
	took, cost, n := time.Since(begin), cpuTime(b)-used, ended()-was
	worst, p99 := tick.stop()
	b.StopTimer()
	at := time.Now()
	if err := s.joinFrom(b, netip.AddrFrom4([4]byte{127, 201, 1, 1}), "gpu-1"); err != nil {
		b.Errorf("honest host: %v", err)
	}
	joined = time.Since(at)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n)/took.Seconds(), "refused/s")
	if n > 0 {
		b.ReportMetric(float64(cost.Microseconds())/float64(n), "CPU-us/refusal")
	}
	b.ReportMetric(cost.Seconds()/took.Seconds(), "cores")
	b.ReportMetric(worst.Seconds()*1e3, "tick-ms")
	b.ReportMetric(p99.Seconds()*1e3, "tick-p99-ms")
	b.ReportMetric(float64(most)/1e6, "MB")
	b.ReportMetric(joined.Seconds()*1e3, "join-ms")
	b.Logf("%v", s.srv.Counters())
}

// TestFloodChild is the other process of BenchmarkRefusal.
func TestFloodChild(t *testing.T) {
	kind, err := strconv.Atoi(os.Getenv("FLOOD_KIND"))
	if err != nil || kind < 0 {
		t.Skip("not a benchmark's child")
	}
	workers, err := strconv.Atoi(os.Getenv("FLOOD_WORKERS"))
	if err != nil {
		t.Fatal(err)
	}
	source := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1 + byte(n%1000>>8), byte(n % 1000), 66}) }
	if os.Getenv("FLOOD_SOURCES") == "one" {
		source = func(int) netip.Addr { return oneBot }
	}
	f := start(os.Getenv("FLOOD_ADDR"), attacks[kind], workers, source)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the benchmark is over
	f.stop()
}

// cpuTime is what this process has used, not its children.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func memory() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64() - m[1].Value.Uint64()
}
