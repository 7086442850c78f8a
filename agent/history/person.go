package history

import (
	"os"
	"os/user"
	"regexp"
	"strconv"
)

// userName is what we believe of an environment: a name as useradd or a
// directory service gives it.
var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}$`)

// Person names who runs this process, for the Actor of an event: "user alice",
// "user alice via sudo", or "uid 1234" when that has no name. Root could lie
// about sudo; the journal is no witness against root.
func Person() string {
	return person(os.Getuid(), os.Getenv("SUDO_USER"), nameOf)
}

func person(uid int, sudoUser string, nameOf func(uid int) string) string {
	if uid == 0 && sudoUser != "root" && userName.MatchString(sudoUser) {
		return "user " + sudoUser + " via sudo"
	}
	if name := nameOf(uid); name != "" {
		return "user " + name
	}
	return "uid " + strconv.Itoa(uid)
}

// nameOf is empty when the system knows no name.
func nameOf(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}
