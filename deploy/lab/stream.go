package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Bounds of one answer to /bulk, should nobody hang up.
const (
	bulkBytes = 64 << 30
	bulkFor   = 30 * time.Second
)

// streamBlock is how much is written and read at a time: large enough that
// system calls do not show beside a tunnel.
const streamBlock = 256 << 10

// serveBulk writes zeros until the client hangs up. The announced length keeps
// HTTP from cutting the stream into chunks.
func serveBulk(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bulkFor)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(bulkBytes))
	block := make([]byte, streamBlock)
	for range bulkBytes / streamBlock {
		if _, err := w.Write(block); err != nil || r.Context().Err() != nil {
			return
		}
	}
}

// serveSink reads until the client has sent everything, and says how much.
func serveSink(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return // the client hung up
	}
	fmt.Fprintln(w, n)
}

// Stream is what one TCP connection carried.
type Stream struct {
	Bytes int64         `json:"bytes"` // counted, after the warm-up
	Took  time.Duration `json:"took"`  // ns; in which they came
	Total int64         `json:"total"` // bytes with the warm-up
}

// gigabits is the rate in Gbit/s; 0 of nothing.
func (s Stream) gigabits() float64 {
	if s.Took <= 0 {
		return 0
	}
	return 8 * float64(s.Bytes) / 1e9 / s.Took.Seconds()
}

// meter counts what comes between two instants. Reads that cross the first
// belong to the warm-up, the one that crosses the second is counted with the
// time it took.
type meter struct {
	from  time.Time // end of the warm-up
	count time.Duration

	began time.Time // zero during the warm-up
	s     Stream
}

// add takes n bytes that came until now and reports whether that is enough.
func (m *meter) add(now time.Time, n int) bool {
	m.s.Total += int64(n)
	switch {
	case now.Before(m.from):
		return false
	case m.began.IsZero():
		m.began = now
		return false
	}
	m.s.Bytes += int64(n)
	m.s.Took = now.Sub(m.began)
	return m.s.Took >= m.count
}

// DrawStream opens one TCP connection to url, lets it warm up, counts what
// comes for the given time, and prints the [Stream] as JSON. A stream that
// ends or stalls before that is an error.
func DrawStream(ctx context.Context, url string, warmUp, count time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, warmUp+count+5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("draw stream: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("draw stream: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("draw stream from %s: HTTP %d", url, res.StatusCode)
	}
	m := meter{from: time.Now().Add(warmUp), count: count}
	block := make([]byte, streamBlock)
	for enough := false; !enough; {
		n, err := res.Body.Read(block)
		enough = m.add(time.Now(), n)
		if err != nil && !enough {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("draw stream from %s: it ended after %d bytes: %w", url, m.s.Total, err)
		}
	}
	return json.NewEncoder(out).Encode(m.s)
}
