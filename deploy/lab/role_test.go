package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestServeUserAsksAndTallies runs a user against a server and reads what it
// prints.
func TestServeUserAsksAndTallies(t *testing.T) {
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	t.Cleanup(func() { cancel(); tasks.Wait() })
	tasks.Go(func() {
		if err := ServeApp(ctx, "gpu-1", ports[0]); err != nil {
			t.Error(err)
		}
	})
	var tl tally
	tasks.Go(func() {
		if err := ServeUser(ctx, "http://"+ports[0].String()+"/", 100, &tl); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	eventually(t, "ten good requests", func() bool {
		c := countOf(tl.requests(began, time.Now()))
		return c.Room >= 10 && c.Cloud == 0
	})
}

func TestServeUserRefusesRate(t *testing.T) {
	if err := ServeUser(t.Context(), "http://127.0.0.1/", 0, io.Discard); err == nil {
		t.Error("rate 0: want an error")
	}
}

// TestServeCloudBalances runs the cloud's process on loopback, without agents:
// the pool of the machine room is empty, the application servers answer.
func TestServeCloudBalances(t *testing.T) {
	ports, err := freePorts(5)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := cloudConfig{
		AWS: ports[0], Front: ports[1:2], Admin: filepath.Join(dir, cloudFile),
		Gateways: []cloudGateway{{Name: "gw-a", Addr: netip.MustParseAddr("172.31.1.11"), Proxy: ports[4]}},
		Apps:     []AppHost{{Name: "app-a", Addr: netip.MustParseAddrPort("172.31.1.21:8080"), Listen: ports[2]}},
		Overlay:  MeshPrefix, Weights: map[string]int{PoolRoom: 0, PoolCloud: 100},
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cloud.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	t.Cleanup(func() { cancel(); tasks.Wait() })
	tasks.Go(func() {
		if err := ServeCloud(ctx, file, io.Discard); err != nil {
			t.Error(err)
		}
	})
	tasks.Go(func() { _ = ServeApp(ctx, "app-a", ports[2]) })
	eventually(t, "an answer by app-a", func() bool {
		by, err := get(ctx, http.DefaultClient, "http://"+ports[1].String()+"/")
		return err == nil && by == "app-a"
	})
	c := newCloudClient(cfg.Admin)
	seed, err := c.seed(ctx)
	if err != nil || seed.Rule == "" || seed.Groups[PoolRoom] == "" || seed.ENIs["gw-a"] == "" {
		t.Errorf("seed %+v, %v", seed, err)
	}
	st, err := c.state(ctx)
	if err != nil || st.Weights[PoolCloud] != 100 || st.NextHop != "" {
		t.Errorf("state %+v, %v", st, err)
	}
}

// TestConnect speaks to a CONNECT proxy that behaves, and to some that do not.
func TestConnect(t *testing.T) {
	to := netip.MustParseAddrPort("10.86.0.9:8080")
	tests := []struct {
		name, answer, wantErr string
	}{
		{name: "good", answer: "HTTP/1.1 200 OK\r\n\r\n"},
		{name: "refused", answer: "HTTP/1.1 502 Bad Gateway\r\n\r\n", wantErr: "502"},
		{name: "garbage", answer: "hello\r\n\r\n", wantErr: "malformed"},
		{name: "silent", wantErr: "deadline"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got := make(chan string, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 200)
				n, _ := c.Read(buf)
				_, _ = io.WriteString(c, tt.answer)
				got <- string(buf[:n])
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			c, err := connect(ctx, l.Addr().(*net.TCPAddr).AddrPort(), to)
			switch {
			case tt.wantErr == "" && err != nil:
				t.Fatal(err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			case tt.wantErr == "":
				_ = c.Close()
			}
			if req := <-got; !strings.HasPrefix(req, "CONNECT 10.86.0.9:8080 HTTP/1.1\r\n") {
				t.Errorf("asked %q", req)
			}
		})
	}
}

func TestWeightsInModifyRule(t *testing.T) {
	s := &sky{seed: cloudSeed{Groups: map[string]string{PoolRoom: "arn:room", PoolCloud: "arn:cloud"}}}
	v := map[string][]string{
		"Actions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn": {"arn:room"},
		"Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight":         {"0"},
		"Actions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn": {"arn:cloud"},
		"Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight":         {"30"},
	}
	got := s.weightsIn(v)
	if len(got) != 2 || got[PoolRoom] != 0 || got[PoolCloud] != 30 {
		t.Errorf("got %v", got)
	}
}

func TestTallySplitLines(t *testing.T) {
	var tl tally
	var b bytes.Buffer
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	enc := json.NewEncoder(&b)
	for _, r := range []Request{
		{Start: at, By: "gpu-2"},
		{Start: at.Add(time.Second), By: "app-a"},
		{Start: at.Add(2 * time.Second), Took: 2 * time.Second, Err: "timeout"},
	} {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range b.Bytes() {
		if _, err := tl.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := countOf(tl.requests(at, at.Add(time.Hour))), (Count{Room: 1, Cloud: 1, Failed: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := len(tl.ended(at.Add(3*time.Second), at.Add(5*time.Second))); got != 1 {
		t.Errorf("%d ended between 3 s and 5 s, want the one that timed out", got)
	}
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	err := repeat(t.Context(), 10*time.Second, 10*time.Millisecond, func(context.Context) (bool, error) {
		if ok() {
			return true, nil
		}
		return false, errors.New(what + " did not come")
	})
	if err != nil {
		t.Fatal(err)
	}
}
