package lab

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// Pool names of the demo route.
const (
	PoolRoom  = "onprem"
	PoolCloud = "cloud"
)

// poolOf tells which pool a server belongs to.
func poolOf(server string) string {
	switch {
	case strings.HasPrefix(server, "gpu-"):
		return PoolRoom
	case strings.HasPrefix(server, "app-"):
		return PoolCloud
	}
	return ""
}

// tally collects the requests of the user. It is the standard output of the
// user's process.
type tally struct {
	mu   sync.Mutex // guards all
	rest []byte     // an unfinished line
	all  []Request  // in the order in which they ended
}

// Write takes lines of JSON.
func (t *tally) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = append(t.rest, p...)
	for {
		line, rest, ok := bytes.Cut(t.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		t.rest = rest
		var r Request
		if json.Unmarshal(line, &r) == nil {
			t.all = append(t.all, r)
		}
	}
}

// requests returns what started in [from, to), by start.
func (t *tally) requests(from, to time.Time) []Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Request
	for _, r := range t.all {
		if !r.Start.Before(from) && r.Start.Before(to) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Request) int { return a.Start.Compare(b.Start) })
	return out
}

// Count is what became of some requests.
type Count struct {
	Room   int `json:"onprem"`
	Cloud  int `json:"cloud"`
	Failed int `json:"failed"`
}

// Total is the number of requests.
func (c Count) Total() int { return c.Room + c.Cloud + c.Failed }

func countOf(rs []Request) Count {
	var c Count
	for _, r := range rs {
		switch {
		case !r.OK():
			c.Failed++
		case poolOf(r.By) == PoolRoom:
			c.Room++
		default:
			c.Cloud++
		}
	}
	return c
}

// ended returns what ended in [from, to).
func (t *tally) ended(from, to time.Time) []Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Request
	for _, r := range t.all {
		if end := r.Start.Add(r.Took); !end.Before(from) && end.Before(to) {
			out = append(out, r)
		}
	}
	return out
}
