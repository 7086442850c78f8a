package awsid

import (
	"fmt"
	"regexp"
)

// partition is one of AWS's separate worlds.
type partition struct {
	name    string // as in ARNs
	region  *regexp.Regexp
	dnsName string
}

// The regions of a partition are known by their shape, as the SDK's own
// endpoint rules know them, with the directions spelled out. Partitions
// without public access (aws-iso and its kin) are not served.
var partitions = []partition{
	{"aws", shape(`(us|eu|ap|sa|ca|me|af|il|mx)`), "amazonaws.com"},
	{"aws-cn", shape(`cn`), "amazonaws.com.cn"},
	{"aws-us-gov", shape(`us-gov`), "amazonaws.com"},
}

func shape(area string) *regexp.Regexp {
	return regexp.MustCompile(`^` + area + `-(central|(north|south)(east|west)?|east|west)-[1-9][0-9]?$`)
}

// partitionOf finds the partition of a region, and so refuses every other word.
func partitionOf(region string) (partition, error) {
	const longest = len("us-gov-northwest-99")
	if len(region) <= longest {
		for _, p := range partitions {
			if p.region.MatchString(region) {
				return p, nil
			}
		}
		return partition{}, fmt.Errorf("%q is not a region of AWS, AWS China or AWS GovCloud", region)
	}
	return partition{}, fmt.Errorf("a region of %d letters", len(region))
}

// host is the regional name of STS.
func (p partition) host(region string) string { return "sts." + region + "." + p.dnsName }
