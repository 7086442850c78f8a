package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// cloudConfig is what the cloud's process is started with.
type cloudConfig struct {
	AWS      netip.AddrPort   `json:"aws"`
	Front    []netip.AddrPort `json:"front"`
	Admin    string           `json:"admin"` // unix socket
	Gateways []cloudGateway   `json:"gateways"`
	Apps     []AppHost        `json:"apps"`
	Overlay  netip.Prefix     `json:"overlay"`
	Weights  map[string]int   `json:"weights"` // normal, by pool
	Routed   bool             `json:"routed"`  // next hops become kernel routes of this host
}

// cloudGateway is a gateway as the VPC knows it.
type cloudGateway struct {
	Name  string         `json:"name"`
	Addr  netip.Addr     `json:"addr"`
	Proxy netip.AddrPort `json:"proxy,omitzero"` // where there is no route: CONNECT
}

// cloudSeed is what the cloud holds for the lab: what an operator would copy
// from the AWS console into the configuration.
type cloudSeed struct {
	Region string            `json:"region"`
	Rule   string            `json:"rule"`
	Groups map[string]string `json:"groups"` // ARN by pool
	Table  string            `json:"table"`
	ENIs   map[string]string `json:"enis"` // by gateway
}

// cloudState is the cloud's side of the truth.
type cloudState struct {
	Weights map[string]int `json:"weights"`  // accepted by the API, by pool
	NextHop string         `json:"next_hop"` // gateway; "" without a route
	Writes  []cloudWrite   `json:"writes"`
}

// cloudWrite is one accepted change of weights or of the next hop.
type cloudWrite struct {
	At     time.Time      `json:"at"`
	Action string         `json:"action"`
	Weight map[string]int `json:"weight,omitempty"` // by pool
	Table  string         `json:"table,omitempty"`
	ENI    string         `json:"eni,omitempty"`
}

// Propagation is the time from an accepted weight until the lab's load
// balancer follows. AWS names no figure; see the load balancer's own answers
// in the measurements for what the sum feels like.
const Propagation = 500 * time.Millisecond

// healthScale is the pace of the lab's load balancer health checks against
// AWS's own: the shortest interval that AWS allows, 5 s, takes 1 s here. It
// plays no part in detection, only in how soon a returned site may be used.
const healthScale = 0.2

// cloudClient asks the cloud's process over its admin socket.
type cloudClient struct{ socket string }

func newCloudClient(socket string) *cloudClient { return &cloudClient{socket} }

type cloudQuestion struct {
	Ask string `json:"ask"` // seed, state
}

func (c *cloudClient) seed(ctx context.Context) (cloudSeed, error) {
	var s cloudSeed
	if err := overSocket(ctx, c.socket, cloudQuestion{"seed"}, &s); err != nil {
		return s, fmt.Errorf("ask cloud: %w", err)
	}
	return s, nil
}

func (c *cloudClient) state(ctx context.Context) (cloudState, error) {
	var s cloudState
	if err := overSocket(ctx, c.socket, cloudQuestion{"state"}, &s); err != nil {
		return s, fmt.Errorf("ask cloud: %w", err)
	}
	return s, nil
}
