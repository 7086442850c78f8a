package awsid

import (
	"fmt"
	"regexp"
	"strings"
)

// maxARN is the longest ARN that STS returns (API reference, GetCallerIdentity).
const maxARN = 2048

// Caller is who AWS says has signed a proof.
type Caller struct {
	Account   string // 12 digits
	ARN       string // as STS gave it
	Partition string // aws, aws-cn, aws-us-gov
	Role      string // name of the role, without its path; "" for a user
	Session   string // name of the role session; "" for a user
}

// Instance is the EC2 instance that the session is named after, or "". EC2
// names the sessions of instance profiles so; everybody else who may assume
// the role names a session at will.
func (c Caller) Instance() string {
	if instanceID.MatchString(c.Session) {
		return c.Session
	}
	return ""
}

// The forms of names (IAM API reference, CreateRole, CreateUser, AssumeRole;
// EC2 user guide, resource ids).
var (
	accountID   = regexp.MustCompile(`^[0-9]{12}$`)
	roleName    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	sessionName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	userPath    = regexp.MustCompile(`^([\x21-\x2e\x30-\x7e]+/)*[A-Za-z0-9_+=,.@-]{1,64}$`)
	instanceID  = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

// parseARN reads the ARN of a role session or of a user:
// arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION or
// arn:PARTITION:iam::ACCOUNT:user/[PATH/]NAME. It fails with ErrIdentity for
// all others.
func parseARN(arn string) (Caller, error) {
	if len(arn) > maxARN {
		return Caller{}, fmt.Errorf("%w: an ARN of %d characters", ErrIdentity, len(arn))
	}
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 || part[0] != "arn" || !knownPartition(part[1]) || part[3] != "" || !accountID.MatchString(part[4]) {
		return Caller{}, fmt.Errorf("%w: %q is not an ARN of an account", ErrIdentity, arn)
	}
	c := Caller{Account: part[4], ARN: arn, Partition: part[1]}
	service, resource := part[2], part[5]
	kind, name, _ := strings.Cut(resource, "/")
	switch {
	case service == "sts" && kind == "assumed-role":
		role, session, _ := strings.Cut(name, "/")
		if !roleName.MatchString(role) || !sessionName.MatchString(session) {
			return Caller{}, fmt.Errorf("%w: %q does not name a role and a session", ErrIdentity, arn)
		}
		c.Role, c.Session = role, session
		return c, nil
	case service == "iam" && kind == "user" && userPath.MatchString(name):
		return c, nil
	case service == "iam" && resource == "root":
		return Caller{}, fmt.Errorf("%w: the root user of account %s; give the host a role", ErrIdentity, c.Account)
	case service == "sts" && kind == "federated-user":
		return Caller{}, fmt.Errorf("%w: %q is a federated user, whose name is chosen by whoever asked for its token; give the host a role", ErrIdentity, arn)
	}
	return Caller{}, fmt.Errorf("%w: %q is neither a role session nor a user", ErrIdentity, arn)
}

func knownPartition(name string) bool {
	for _, p := range partitions {
		if p.name == name {
			return true
		}
	}
	return false
}
