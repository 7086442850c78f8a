package agent

import (
	"context"
	"log/slog"
	"reflect"
	"time"

	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/conflict"
)

// hostEar tells the world what else is on this host: programs that come and go
// while this one runs take routes and drop packets too.
type hostEar struct {
	wish  conflict.Wish
	world *world.World
	log   *slog.Logger
}

// hostEvery is how often the host is read: a person who has just followed a
// finding's next step looks again within about that time.
const hostEvery = 20 * time.Second

func (hostEar) String() string { return "host" }

// Run reads until ctx ends.
func (e hostEar) Run(ctx context.Context) error {
	ticker := time.NewTicker(hostEvery)
	defer ticker.Stop()
	var last *tunnel.Host
	for {
		h, err := conflict.Read(e.wish)
		if err != nil {
			e.log.Warn("host not read whole: conflicts may go unnoticed", "err", err)
		}
		if (err == nil || last == nil) && (last == nil || !reflect.DeepEqual(*last, h)) {
			last = &h
			e.world.Host(h)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// hostWish is what this node wants to do on its host.
func (a *Agent) hostWish() conflict.Wish {
	set := a.settings()
	w := conflict.Wish{
		Interface: a.tunnel.iface, Mesh: set.Mesh, Self: a.id.self.Addr, Control: set.Control, Port: a.port(),
		Dialled: len(a.endpoints()) > 0, Forward: a.id.self.Role == discovery.RoleGateway,
	}
	if !w.Forward {
		w.Subnets = set.Advertise
	}
	for _, s := range a.set.Services {
		w.Services = append(w.Services, s.Port)
	}
	return w
}

// forwards: this host passes on what is not for it.
func (a *Agent) forwards() bool {
	return a.id.self.Role == discovery.RoleGateway || len(a.set.Advertise) > 0
}
