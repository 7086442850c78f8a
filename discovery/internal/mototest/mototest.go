// Package mototest starts moto's server, the second opinion on AWS's wire
// format, for the tests of the AWS hands.
//
// It promises a server on a free loopback port that ends with the test, or a
// skip with the reason. It imports the standard library only.
package mototest

import (
	"bufio"
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startTimeout bounds the start of the Python process, and each call of the
// set-up.
const startTimeout = 60 * time.Second

var running = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// Start runs moto_server until the test ends and returns its URL. It skips
// the test when there is no moto_server.
func Start(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("moto_server is slow to start; run without -short")
	}
	bin, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("no moto_server in PATH; install it with: pip install 'moto[server]'")
	}
	cmd := exec.CommandContext(t.Context(), bin, "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1")
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Skipf("start moto_server: %v", err)
	}
	found, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			if m := running.FindStringSubmatch(sc.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Wait() // killed with the test's context, as it says
		_ = w.Close()  // never fails
		<-drained
	})
	select {
	case u := <-found:
		return u
	case <-time.After(startTimeout):
		t.Skipf("moto_server did not start within %v", startTimeout)
		return ""
	}
}

// Call makes one call of a Query API, signed as anybody, and decodes the
// answer into out.
func Call(t testing.TB, endpoint, service, version string, out any, kv ...string) {
	t.Helper()
	vals := url.Values{"Version": {version}}
	for i := 0; i+1 < len(kv); i += 2 {
		vals.Set(kv[i], kv[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout) // moto imports on demand
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(vals.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=KEY/20250101/us-east-1/"+service+"/aws4_request, SignedHeaders=host, Signature=00")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v: %s %v %s", kv, res.Status, err, body)
	}
	if err := xml.Unmarshal(body, out); err != nil {
		t.Fatalf("%v: %v in %s", kv, err, body)
	}
}
