package history

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// issued is an event as there are many.
var issued = Event{
	Kind: "certificate-issued", Subject: "gpu-1", To: "valid", Reason: "join", Actor: "node 3f9a1c2b gpu-1 from 203.0.113.9:40001",
	Detail: map[string]string{"serial": "1234567890", "not_after": "2026-04-01T00:00:00Z", "addr": "10.77.16.9"},
}

// One event, with its lock and its fsync.
func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		if err := Append(dir, issued); err != nil {
			b.Fatal(err)
		}
	}
}

// benchJournal writes a journal as large as they get, and says of how many
// events.
func benchJournal(b *testing.B) (dir string, events int) {
	b.Helper()
	dir = b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, folder), dirMode); err != nil {
		b.Fatal(err)
	}
	for i, text := range makeJournal(maxSegments, maxSegment, issued) {
		if err := os.WriteFile(segmentPath(dir, i+1), text, fileMode); err != nil {
			b.Fatal(err)
		}
		events += bytes.Count(text, []byte("\n"))
	}
	b.SetBytes(maxSegments * maxSegment)
	b.ReportAllocs()
	return dir, events
}

func BenchmarkRead(b *testing.B) {
	dir, events := benchJournal(b)
	for b.Loop() {
		if _, err := Read(dir, Filter{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events), "events")
}

func BenchmarkCheck(b *testing.B) {
	dir, events := benchJournal(b)
	for b.Loop() {
		if err := Check(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events), "events")
}
