package decide

import (
	"fmt"
	"testing"
	"time"

	"drawbridge/discovery"
)

// BenchmarkDecide: a gateway decides up to twenty times a second.
func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct{ nodes, sites, routes int }{{5, 1, 1}, {1000, 20, 50}} {
		b.Run(fmt.Sprintf("nodes=%d", c.nodes), func(b *testing.B) {
			g := large(c.nodes, c.sites, c.routes)
			a := g.actor("gw-a")
			g.now = g.now.Add(tick)
			g.hear(a)
			s := g.snapshot(a)
			mem := a.mem
			b.ReportAllocs()
			for b.Loop() {
				mem, _ = Decide(g.now, mem, s)
			}
		})
	}
}

// large is a mesh in which only the first gateway thinks.
func large(nodes, sites, routes int) *stage {
	g := newStage()
	g.add("gw-a", "aws", discovery.RoleGateway, "eni-a")
	g.add("gw-b", "aws", discovery.RoleGateway, "eni-b")
	svc := discovery.Service{Name: "api", Port: 8080, Check: discovery.CheckPassing}
	for i := range nodes - 2 {
		g.add(fmt.Sprintf("n-%04d", i), fmt.Sprintf("site-%02d", i%sites), discovery.RoleServer, "", svc)
	}
	for i := range routes {
		r := discovery.Route{Name: fmt.Sprintf("r-%02d", i), Rule: fmt.Sprintf("rule-%02d", i)}
		r.Pools = []discovery.Pool{
			{Name: "idc", Site: fmt.Sprintf("site-%02d", i%sites), Service: "api", TargetGroup: fmt.Sprintf("tg-%02d", i), Weight: 70},
			{Name: "aws", TargetGroup: "tg-aws", Weight: 30},
		}
		g.routes = append(g.routes, r)
		g.aws.weights[r.Rule] = map[string]int{r.Pools[0].TargetGroup: 70, "tg-aws": 30}
		g.aws.targets[r.Pools[0].TargetGroup] = nil
	}
	g.aws.outside["tg-aws"] = [2]int{2, 2}
	a := g.actor("gw-a")
	for range 100 {
		g.now = g.now.Add(tick)
		g.hear(a)
		a.moved = g.now.Add(-time.Minute)
		g.think(a)
	}
	return g
}
