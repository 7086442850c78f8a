// Program control is a control server and a relay for two tailscaleds of the
// lab: Tailscale's own, of its tests.
//
//	control ADDR:PORT
package main

import (
	"log"
	"net"
	"net/http"
	"os"
	"testing"

	"tailscale.com/tstest/integration"
	"tailscale.com/tstest/integration/testcontrol"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: control ADDR:PORT")
	}
	host, _, err := net.SplitHostPort(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	quiet := func(string, ...any) {}
	s := &testcontrol.Server{
		DERPMap:          integration.RunDERPAndSTUN(noTest{}, quiet, host),
		ExplicitBaseURL:  "http://" + os.Args[1],
		AllNodesSameUser: true,
		AllOnline:        true,
		Logf:             quiet,
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Print("up")
	log.Fatal(http.Serve(l, s))
}

// noTest is what helpers of tests are given here: they may only fail.
type noTest struct{ testing.TB }

func (noTest) Helper()                   {}
func (noTest) Cleanup(func())            {}
func (noTest) Logf(string, ...any)       {}
func (noTest) Fatal(args ...any)         { log.Fatal(args...) }
func (noTest) Fatalf(f string, a ...any) { log.Fatalf(f, a...) }
func (noTest) Errorf(f string, a ...any) { log.Printf(f, a...) }
