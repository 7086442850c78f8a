package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"

	"drawbridge/tunnel"
)

// Names of the tunnels that a measurement compares.
const (
	oursTUN      = "ours on TUN"
	oursNetstack = "ours, netstack to TUN"
	bareGo       = "bare wireguard-go"
)

// tunnelKind is one way to join the two hosts of a cable.
type tunnelKind struct {
	name  string
	raise func(context.Context) (raised, error)
}

// raised is a tunnel that stands, or what there is of one that failed.
type raised struct {
	addr    netip.Addr // of the right end
	daemons []string   // processes whose use counts
	others  []string   // processes that the tunnel needs besides
	serves  bool       // the right end serves the track itself
}

// tunnels are those that can be had here.
func (l *Lab) tunnels(m Measure) (out []tunnelKind, absent []string) {
	all := []tunnelKind{
		{bareGo, l.raiseBareOnCable},
		{oursTUN, func(ctx context.Context) (raised, error) { return l.raiseOurs(ctx, tunnel.Userspace) }},
		{oursNetstack, func(ctx context.Context) (raised, error) { return l.raiseOurs(ctx, tunnel.Netstack) }},
	}
	theirs, absent := l.others()
	for _, t := range append(all, theirs...) {
		if m.wanted(t.name) {
			out = append(out, t)
		}
	}
	return out, absent
}

func (l *Lab) raiseBareOnCable(ctx context.Context) (raised, error) {
	left, right, err := barePlans(overlayMTU, leftUnderlay)
	if err != nil {
		return raised{}, err
	}
	a := raised{addr: bareServer.Addr()}
	// The left first: a greeting that nobody hears is repeated only after five
	// seconds.
	for _, end := range []struct {
		host string
		plan barePlan
	}{{cableLeft, left}, {cableRight, right}} {
		if err := l.startBare(ctx, end.host, end.plan); err != nil {
			return a, err
		}
		a.daemons = append(a.daemons, bareName(end.host))
	}
	return a, nil
}

// raiseOurs puts our TUN backend on the left and the given one on the right.
func (l *Lab) raiseOurs(ctx context.Context, right tunnel.Backend) (raised, error) {
	keys, err := endKeys()
	if err != nil {
		return raised{}, err
	}
	a := raised{addr: bareServer.Addr(), serves: right == tunnel.Netstack}
	for _, end := range []struct {
		host string
		plan endPlan
	}{
		{cableLeft, endPlan{Backend: tunnel.Userspace, MTU: overlayMTU, Addr: bareGateway, Port: barePort, Private: keys[0], Peer: keys[1], PeerAddr: bareServer.Addr()}},
		{cableRight, endPlan{
			Backend: right, MTU: overlayMTU, Addr: bareServer, Private: keys[1], Peer: keys[0], PeerAddr: bareGateway.Addr(),
			Endpoint: netip.AddrPortFrom(leftUnderlay, barePort),
		}},
	} {
		name := "ours-" + end.host
		if err := l.startEnd(ctx, end.host, name, end.plan, "overlay-end"); err != nil {
			return a, err
		}
		a.daemons = append(a.daemons, name)
	}
	return a, nil
}

// endKeys are private keys for two ends.
func endKeys() (keys [2][]byte, err error) {
	for i := range keys {
		keys[i] = make([]byte, tunnel.KeyLen)
		if _, err := rand.Read(keys[i]); err != nil {
			return keys, fmt.Errorf("make key: %w", err)
		}
	}
	return keys, nil
}
