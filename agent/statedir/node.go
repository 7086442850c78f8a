package statedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"drawbridge/discovery"
)

// NodeVersion is the version of [Node] that this agent writes and reads.
const NodeVersion = 1

// Node is who this host is in which mesh, as decided by init or join.
type Node struct {
	Version    int              `json:"version"`
	Mesh       string           `json:"mesh"`
	Prefix     netip.Prefix     `json:"prefix"` // of the mesh, IPv4, masked
	Domain     string           `json:"domain"`
	ListenPort uint16           `json:"listen_port"` // WireGuard, UDP; 0: the system chooses
	Endpoints  []netip.AddrPort `json:"endpoints"`   // underlay, where others can dial; empty behind NAT
	Site       string           `json:"site"`
	Role       discovery.Role   `json:"role"`
	Name       string           `json:"name"`
}

// Node reads who this host is.
func (d *Dir) Node() (Node, error) {
	var n Node
	if err := d.readJSON(fileNode, &n); err != nil {
		return Node{}, err
	}
	if n.Version != NodeVersion {
		return Node{}, fmt.Errorf("read %s/%s: %w: version %d, want %d; install the newer version again", d.path, fileNode, ErrVersion, n.Version, NodeVersion)
	}
	if err := n.check(); err != nil {
		return Node{}, d.damaged(fileNode, err)
	}
	return n, nil
}

// SetNode keeps who this host is. Version is filled in. Whoever fills a new
// directory uses [Dir.Commit].
func (d *Dir) SetNode(n Node) error {
	n.Version = NodeVersion
	if err := n.check(); err != nil {
		return fmt.Errorf("write %s: %w", fileNode, err)
	}
	return d.writeJSON(fileNode, n)
}

func (n Node) check() error {
	switch {
	case n.Mesh == "" || n.Site == "" || n.Name == "" || n.Domain == "":
		return errors.New("mesh, site, name and domain are needed")
	case !n.Prefix.IsValid() || !n.Prefix.Addr().Is4() || n.Prefix != n.Prefix.Masked():
		return fmt.Errorf("prefix %s is not a masked IPv4 prefix", n.Prefix)
	case n.Role != discovery.RoleGateway && n.Role != discovery.RoleServer:
		return fmt.Errorf("unknown role %q", n.Role)
	}
	return nil
}

// readJSON decodes strictly: an unknown field, or a second value, is damage.
func (d *Dir) readJSON(name string, v any) error {
	b, err := d.read(name)
	if err != nil {
		return err
	}
	if err := unmarshal(b, v); err != nil {
		return d.damaged(name, err)
	}
	return nil
}

func (d *Dir) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return d.write(name, append(b, '\n'))
}

func unmarshal(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
