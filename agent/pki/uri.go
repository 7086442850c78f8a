package pki

import (
	"fmt"
	"strings"

	"drawbridge/discovery"
)

// parseURI reads spiffe://MESH/site/SITE/ROLE/NAME. Labels contain nothing
// that a URI would escape, so a plain split is exact.
func parseURI(uri, mesh string) (site string, role discovery.Role, name string, err error) {
	parts := strings.Split(uri, "/")
	if len(parts) != 7 || parts[0] != "spiffe:" || parts[1] != "" || parts[2] != mesh || parts[3] != "site" {
		return "", "", "", fmt.Errorf("URI %q, want spiffe://%s/site/SITE/ROLE/NAME", clip(uri), mesh)
	}
	return parts[4], discovery.Role(parts[5]), parts[6], nil
}
