// Package nstest gives tests network namespaces of their own, without
// privilege: the test binary starts itself again in a new user namespace.
//
// It promises that nothing a test does there is seen by the host, and that
// everything is gone when the process ends. Where user namespaces are not
// permitted, tests run as they are and [Need] skips those that need one.
//
// It owns nothing outside the namespaces, imports the standard library,
// vishvananda/netlink and netns, and is never imported by anything but tests.
package nstest
