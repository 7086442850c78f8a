package stream

import (
	"net"
	"testing"
	"time"
)

// BenchmarkCarry carries bursts of eight datagrams of a TCP stream's size through
// TLS, up to the other device, as fast as they arrive there.
func BenchmarkCarry(b *testing.B) {
	const size, together = 1312, 8
	w := newTown(b)
	port := w.serverDevice.addr
	st := w.up(b)
	w.serverDevice.Close() // its port is taken by a leg that can send bursts
	c, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(port)}).Dial("udp", st.Local.String())
	if err != nil {
		b.Fatal(err)
	}
	from := &leg{UDPConn: c.(*net.UDPConn)}
	from.raw, _ = from.SyscallConn()
	from.in.init(from.readOnce)
	from.out.init(from.writeOnce)
	from.offload()
	defer from.Close()
	to := &leg{UDPConn: w.gwDevice.UDPConn}
	to.raw, _ = to.SyscallConn()
	to.in.init(to.readOnce)
	to.offload()
	var list [][]byte
	for i := range uint64(together) {
		list = append(list, data(1, i, size))
	}
	chunk := make([]byte, chunkLen)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	sent, came := 0, 0
	for came < b.N {
		for sent-came < 6*together { // no more under way than the sockets hold
			from.send(list)
			sent += together
		}
		w.gwDevice.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, size, err := to.read(chunk)
		if err != nil {
			sent = came // some were lost
			continue
		}
		came += (n + size - 1) / size
	}
}
