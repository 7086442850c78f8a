package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What asker and answerer say: as small as HTTP gets, so that what is between
// them shows.
const (
	question = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
	answer   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// ServeAnswers answers every question on every connection until ctx ends.
func ServeAnswers(ctx context.Context, listen netip.AddrPort) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", listen.String())
	if err != nil {
		return fmt.Errorf("serve answers: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve answers: %w", err)
		}
		conns.Go(func() {
			end := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer end()
			defer c.Close()
			answerAll(c)
		})
	}
}

func answerAll(c net.Conn) {
	r := bufio.NewReaderSize(c, 4096)
	b := make([]byte, len(question))
	for {
		if _, err := io.ReadFull(r, b); err != nil || !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// Asked is what became of the questions.
type Asked struct {
	Answers int           `json:"answers"`
	Took    time.Duration `json:"took"` // ns
	P50     time.Duration `json:"p50"`  // ns, of one answer
	P99     time.Duration `json:"p99"`
	Failed  int           `json:"failed"`
}

func (a Asked) rate() float64 { return float64(a.Answers) / a.Took.Seconds() }

// Ask asks addr with so many clients for d, each on a connection that it
// keeps, or with fresh on a new one for each question, and prints [Asked] as
// JSON.
func Ask(ctx context.Context, addr netip.AddrPort, clients int, d time.Duration, fresh bool, out io.Writer) error {
	const warmUp = 300 * time.Millisecond
	began := time.Now()
	end := began.Add(warmUp + d)
	var (
		all  sync.WaitGroup
		mu   sync.Mutex // guards took and failed
		took []time.Duration
		a    Asked
	)
	for range clients {
		all.Go(func() {
			mine, failed := askUntil(ctx, addr, began.Add(warmUp), end, fresh)
			mu.Lock()
			defer mu.Unlock()
			took, a.Failed = append(took, mine...), a.Failed+failed
		})
	}
	all.Wait()
	slices.Sort(took)
	a.Answers, a.Took, a.P50, a.P99 = len(took), d, quantile(took, .5), quantile(took, .99)
	return json.NewEncoder(out).Encode(a)
}

// askUntil is one client. What is answered before from does not count.
func askUntil(ctx context.Context, addr netip.AddrPort, from, end time.Time, fresh bool) (took []time.Duration, failed int) {
	var (
		c net.Conn
		b = make([]byte, len(answer))
	)
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for began := time.Now(); began.Before(end) && ctx.Err() == nil; began = time.Now() {
		err := func() (err error) {
			if c == nil {
				d := net.Dialer{Timeout: 2 * time.Second}
				if c, err = d.DialContext(ctx, "tcp4", addr.String()); err != nil {
					return err
				}
				// Ports must not run out: no TIME_WAIT.
				if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.SetDeadline(end.Add(2*time.Second))); err != nil {
					return err
				}
			}
			if _, err = io.WriteString(c, question); err != nil {
				return err
			}
			_, err = io.ReadFull(c, b)
			return err
		}()
		if began.After(from) {
			if err == nil {
				took = append(took, time.Since(began))
			} else {
				failed++
			}
		}
		if (err != nil || fresh) && c != nil {
			_ = c.Close()
			c = nil
		}
		if err != nil {
			_ = sleep(ctx, 10*time.Millisecond)
		}
	}
	return took, failed
}
