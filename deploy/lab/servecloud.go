package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"drawbridge/discovery/cloudtest"
)

// The lab's VPC, and the ids of what is in it.
var vpcPrefix = netip.MustParsePrefix("172.31.0.0/16")

const tableID = "rtb-0b00000000000001"

// sky is the cloud's process: an AWS API, a load balancer that really
// balances, and the VPC's way into the overlay.
type sky struct {
	cfg   cloudConfig
	aws   *cloudtest.Cloud
	seed  cloudSeed
	start time.Time
	log   *slog.Logger

	mu  sync.Mutex // guards hop
	hop string     // ENI; "" without a route
}

// ServeCloud runs the cloud that the file describes until ctx ends.
func ServeCloud(ctx context.Context, file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read cloud plan: %w", err)
	}
	s := &sky{start: time.Now(), log: slog.New(slog.NewTextHandler(out, nil))}
	if err := json.Unmarshal(b, &s.cfg); err != nil {
		return fmt.Errorf("read cloud plan: %w", err)
	}
	s.aws = cloudtest.New(cloudtest.Options{
		TimeScale: healthScale, Propagation: Propagation, Dial: s.dial,
		Throttle: true, RandomChoice: true, Logger: s.log,
	})
	s.aws.OnNextHop(s.nextHop)
	listener, err := s.build()
	if err != nil {
		return fmt.Errorf("build cloud: %w", err)
	}
	servers := []server{
		{addr: s.cfg.AWS.String(), handler: s.aws},
		{addr: s.cfg.Admin, handler: http.HandlerFunc(s.answer)},
	}
	balancer := s.aws.Balancer(listener)
	for _, front := range s.cfg.Front {
		servers = append(servers, server{addr: front.String(), handler: balancer})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var checks sync.WaitGroup
	defer checks.Wait()
	checks.Go(func() {
		defer cancel()
		_ = s.aws.Run(ctx) // nil when ctx ends
	})
	err = serve(ctx, servers)
	cancel()
	return err
}

// build makes what an operator would have made before the agents come.
func (s *sky) build() (listener string, err error) {
	enis, byName := map[string]netip.Addr{}, map[string]string{}
	for i, g := range s.cfg.Gateways {
		id := fmt.Sprintf("eni-0e%015d", i+1)
		enis[id], byName[g.Name] = g.Addr, id
	}
	var apps []netip.AddrPort
	for _, a := range s.cfg.Apps {
		apps = append(apps, a.Addr)
	}
	seeded, err := s.aws.Seed(cloudtest.Layout{
		VPC: vpcPrefix,
		Groups: []cloudtest.GroupLayout{
			{Name: PoolRoom, Weight: s.cfg.Weights[PoolRoom], Port: appPort, CheckPath: "/healthz"},
			{Name: PoolCloud, Weight: s.cfg.Weights[PoolCloud], Port: appPort, CheckPath: "/healthz", Targets: apps},
		},
		Tables: []string{tableID},
		ENIs:   enis,
	})
	if err != nil {
		return "", err
	}
	s.seed = cloudSeed{
		Region: cloudtest.DefaultRegion, Rule: seeded.Rule, Groups: seeded.Groups, Table: tableID, ENIs: byName,
	}
	return seeded.Listener, nil
}

// answer tells the lab what it asks over the admin socket.
func (s *sky) answer(w http.ResponseWriter, r *http.Request) {
	var q cloudQuestion
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var a any = s.seed
	if q.Ask == "state" {
		a = s.state()
	}
	_ = json.NewEncoder(w).Encode(a) // the asker may be gone
}

// state reads the log of accepted calls: what was written, and when.
func (s *sky) state() cloudState {
	st := cloudState{Weights: map[string]int{}}
	for pool, w := range s.cfg.Weights {
		st.Weights[pool] = w
	}
	for _, c := range s.aws.Calls() {
		if c.Status != http.StatusOK || strings.HasPrefix(c.Action, "Describe") {
			continue
		}
		w := cloudWrite{At: c.At.Add(c.Took), Action: c.Action}
		switch c.Action {
		case "ModifyRule":
			w.Weight = s.weightsIn(c.Params)
			for pool, n := range w.Weight {
				st.Weights[pool] = n
			}
		case "CreateRoute", "ReplaceRoute":
			w.Table, w.ENI = c.Params.Get("RouteTableId"), c.Params.Get("NetworkInterfaceId")
		}
		st.Writes = append(st.Writes, w)
	}
	eni := s.present()
	for name, id := range s.seed.ENIs {
		if id == eni {
			st.NextHop = name
		}
	}
	return st
}

// weightsIn reads the weights of a ModifyRule call, by pool.
func (s *sky) weightsIn(v url.Values) map[string]int {
	out := map[string]int{}
	for i := 1; ; i++ {
		at := fmt.Sprintf("Actions.member.1.ForwardConfig.TargetGroups.member.%d.", i)
		arn := v.Get(at + "TargetGroupArn")
		if arn == "" {
			return out
		}
		for pool, group := range s.seed.Groups {
			if n, err := strconv.Atoi(v.Get(at + "Weight")); err == nil && group == arn {
				out[pool] = n
			}
		}
	}
}

// nextHop is told whenever the VPC's route to the mesh leads elsewhere.
func (s *sky) nextHop(_ string, prefix netip.Prefix, eni string, addr netip.Addr) {
	s.mu.Lock()
	s.hop = eni
	s.mu.Unlock()
	s.log.Info("next hop", "prefix", prefix, "eni", eni, "addr", addr)
	if !s.cfg.Routed {
		return
	}
	if err := routeVia(prefix, addr); err != nil {
		s.log.Error("set route", "err", err)
	}
}

func (s *sky) present() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hop
}

// dial reaches a target as the VPC would: application servers where they
// really listen, the overlay by the route, or through the CONNECT proxy of the
// gateway that the route names.
func (s *sky) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial target: %w", err)
	}
	for _, a := range s.cfg.Apps {
		if a.Addr == to {
			to = a.Listen
		}
	}
	var d net.Dialer
	if !s.cfg.Overlay.Contains(to.Addr()) || s.cfg.Routed {
		return d.DialContext(ctx, network, to.String())
	}
	for _, g := range s.cfg.Gateways {
		if eni := s.present(); eni != "" && s.seed.ENIs[g.Name] == eni {
			return connect(ctx, g.Proxy, to)
		}
	}
	return nil, errors.New("dial target: the VPC has no route to the mesh")
}

// connect opens a connection through an HTTP CONNECT proxy (RFC 9110, 9.3.6).
func connect(ctx context.Context, proxy, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", proxy.String())
	if err != nil {
		return nil, fmt.Errorf("dial gateway: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	r := bufio.NewReader(c)
	res, err := func() (*http.Response, error) {
		if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to); err != nil {
			return nil, err
		}
		return http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	}() //nolint:bodyclose // what follows the answer is the tunnel itself
	switch {
	case !stop():
		err = errors.Join(ctx.Err(), err)
	case err == nil && res.StatusCode != http.StatusOK:
		err = fmt.Errorf("gateway answers %s", res.Status)
	case err == nil && r.Buffered() > 0:
		err = errors.New("gateway speaks first")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", to, err), c.Close())
	}
	return c, nil
}
