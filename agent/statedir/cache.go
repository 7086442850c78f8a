package statedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// maxBlobs bounds the number of blobs in one file.
const maxBlobs = 1 << 16

// Peers reads the signed node records of the last run, as opaque blobs. A
// damaged file is an error that matches [ErrCorrupt]; a caller may go on with
// none and a warning.
func (d *Dir) Peers() ([][]byte, error) { return d.blobs(filePeers) }

// SetPeers keeps signed node records.
func (d *Dir) SetPeers(blobs [][]byte) error { return d.setBlobs(filePeers, blobs) }

// Notices reads the signed notices that this node knows of (who was revoked,
// which roots are trusted), as opaque blobs. A damaged file is an error that
// matches [ErrCorrupt]; whoever goes on without tells it loudly, since until
// the other nodes have told it again nobody is known as revoked.
func (d *Dir) Notices() ([][]byte, error) { return d.blobs(fileNotices) }

// SetNotices keeps signed notices.
func (d *Dir) SetNotices(blobs [][]byte) error { return d.setBlobs(fileNotices, blobs) }

func (d *Dir) blobs(name string) ([][]byte, error) {
	b, err := d.read(name)
	if err != nil {
		return nil, err
	}
	blobs, err := decodeBlobs(b)
	if err != nil {
		return nil, d.damaged(name, err)
	}
	return blobs, nil
}

func (d *Dir) setBlobs(name string, blobs [][]byte) error {
	if len(blobs) > maxBlobs {
		return fmt.Errorf("write %s: %w: %d records", name, ErrTooLarge, len(blobs))
	}
	return d.write(name, encodeBlobs(blobs))
}

// encodeBlobs is a count, then each blob after its length; 32 bits, big endian.
func encodeBlobs(blobs [][]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(blobs)))
	for _, blob := range blobs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(blob)))
		b = append(b, blob...)
	}
	return b
}

func decodeBlobs(b []byte) ([][]byte, error) {
	short := errors.New("the list of records is cut short")
	if len(b) < 4 {
		return nil, short
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if n > maxBlobs || int(n) > len(b)/4 {
		return nil, short
	}
	blobs := make([][]byte, 0, n)
	for range n {
		if len(b) < 4 {
			return nil, short
		}
		size := uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
		if size > uint64(len(b)) {
			return nil, short
		}
		blobs = append(blobs, slices.Clone(b[:size]))
		b = b[size:]
	}
	if len(b) != 0 {
		return nil, errors.New("bytes after the last record")
	}
	return blobs, nil
}

type endpoint struct {
	Node discovery.NodeID `json:"node"`
	Addr netip.AddrPort   `json:"addr"`
}

// Endpoints reads where nodes were last heard from, sorted by node. A damaged
// file is an error that matches [ErrCorrupt]; a caller may go on with none.
func (d *Dir) Endpoints() ([]discovery.Endpoint, error) {
	var list []endpoint
	if err := d.readJSON(fileEndpoints, &list); err != nil {
		return nil, err
	}
	out := make([]discovery.Endpoint, 0, len(list))
	for _, e := range list {
		out = append(out, discovery.Endpoint(e))
	}
	return out, nil
}

// SetEndpoints keeps where nodes were last heard from.
func (d *Dir) SetEndpoints(eps []discovery.Endpoint) error {
	list := make([]endpoint, 0, len(eps))
	for _, e := range eps {
		list = append(list, endpoint(e))
	}
	slices.SortFunc(list, func(a, b endpoint) int {
		if c := strings.Compare(string(a.Node), string(b.Node)); c != 0 {
			return c
		}
		return a.Addr.Compare(b.Addr)
	})
	return d.writeJSON(fileEndpoints, list)
}

// Doors reads the TCP addresses where others reach this gateway, as its agent
// announced them last. A damaged file is an error that matches [ErrCorrupt]; a
// caller may go on with none.
func (d *Dir) Doors() ([]netip.AddrPort, error) {
	var list []netip.AddrPort
	return list, d.readJSON(fileDoors, &list)
}

// SetDoors keeps where others reach this gateway by TCP, in the order to try.
func (d *Dir) SetDoors(list []netip.AddrPort) error { return d.writeJSON(fileDoors, list) }

// Memory reads the brain's memory, as it was kept. A damaged file is an error
// that matches [ErrCorrupt]; a caller may go on with none.
func (d *Dir) Memory() ([]byte, error) { return d.read(fileMemory) }

// SetMemory keeps the brain's memory.
func (d *Dir) SetMemory(b []byte) error { return d.write(fileMemory, b) }

// LatestTime reads the latest time that this host's clock has shown. A damaged
// file is an error that matches [ErrCorrupt]; a caller may go on with none.
func (d *Dir) LatestTime() (time.Time, error) {
	var at time.Time
	err := d.readJSON(fileClock, &at)
	return at, err
}

// SetLatestTime keeps the latest time that this host's clock has shown.
func (d *Dir) SetLatestTime(at time.Time) error { return d.writeJSON(fileClock, at.UTC().Round(0)) }
