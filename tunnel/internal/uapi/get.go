package uapi

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"drawbridge/tunnel"
)

const (
	maxPeers = 1 << 16 // wireguard-go's own limit
	maxLine  = 4096    // bytes; the longest line is a key of 80
)

// Get reads the answer to a get operation: the UDP port listened on and the
// peers, sorted by key. Lines it does not know are skipped, as the protocol
// asks. Errors name the line's key only, because values may be secret.
func Get(text string) (port uint16, peers []tunnel.PeerStatus, err error) {
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(make([]byte, 0, 256), maxLine)
	var times [][2]int64 // handshake seconds and nanoseconds by peer
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return 0, nil, errors.New("read device state: a line has no =")
		}
		switch {
		case name == "errno" && value != "0":
			return 0, nil, fmt.Errorf("read device state: errno %.8q", value)
		case name == "listen_port":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return 0, nil, fmt.Errorf("read device state: bad %s", name)
			}
			port = uint16(n)
		case name == "public_key":
			if len(peers) == maxPeers {
				return 0, nil, fmt.Errorf("read device state: more than %d peers", maxPeers)
			}
			k, err := parseKey(value)
			if err != nil {
				return 0, nil, err
			}
			peers = append(peers, tunnel.PeerStatus{Key: k})
			times = append(times, [2]int64{})
		case len(peers) > 0:
			last := len(peers) - 1
			if err := peerLine(&peers[last], &times[last], name, value); err != nil {
				return 0, nil, err
			}
		}
	}
	if err := sc.Err(); err != nil {
		return 0, nil, fmt.Errorf("read device state: %w", err)
	}
	for i, t := range times {
		if t != [2]int64{} {
			peers[i].LastHandshake = time.Unix(t[0], t[1])
		}
	}
	slices.SortFunc(peers, func(a, b tunnel.PeerStatus) int { return a.Key.Compare(b.Key) })
	return port, peers, nil
}

func peerLine(p *tunnel.PeerStatus, t *[2]int64, name, value string) error {
	var err error
	switch name {
	case "endpoint":
		var a netip.AddrPort
		if a, err = netip.ParseAddrPort(value); err == nil {
			p.Endpoint = unmap(a)
		}
	case "last_handshake_time_sec":
		t[0], err = number(value)
	case "last_handshake_time_nsec":
		t[1], err = number(value)
	case "rx_bytes":
		p.RxBytes, err = strconv.ParseUint(value, 10, 64)
	case "tx_bytes":
		p.TxBytes, err = strconv.ParseUint(value, 10, 64)
	}
	if err != nil {
		return fmt.Errorf("read device state: bad %s", name)
	}
	return nil
}

// number reads a time part; none is negative.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func parseKey(s string) (tunnel.Key, error) {
	var k tunnel.Key
	if len(s) != 2*tunnel.KeyLen {
		return k, errors.New("read device state: bad public_key")
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil {
		return k, errors.New("read device state: bad public_key")
	}
	return k, nil
}
