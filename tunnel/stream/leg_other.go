//go:build !linux

package stream

// half is what one direction keeps: nothing, without the kernel's bursts.
type half struct{}

func (*half) init(func(uintptr) bool) {}

func (l *leg) offload()                {}
func (l *leg) readOnce(uintptr) bool   { return true }
func (l *leg) writeOnce(uintptr) bool  { return true }
func (l *leg) more([]byte) (n, sz int) { return 0, 0 }

// read waits for one datagram.
func (l *leg) read(b []byte) (n, size int, err error) {
	n, err = l.Read(b)
	return n, n, err
}

// send sends datagrams, one after the other.
func (l *leg) send(list [][]byte) {
	for _, d := range list {
		_, _ = l.Write(d)
	}
}
