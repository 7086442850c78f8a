package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"
)

// openssl is a second opinion on our certificates.
type openssl struct {
	path, dir string
}

func newOpenSSL(t *testing.T) openssl {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	return openssl{path, t.TempDir()}
}

// file keeps certificates as PEM.
func (o openssl) file(t *testing.T, ders ...[]byte) string {
	t.Helper()
	f, err := os.CreateTemp(o.dir, "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range ders {
		if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// verify judges leaf under the certificates between, as a TLS server would its
// client's.
func (o openssl) verify(t *testing.T, root, leaf []byte, between [][]byte, flags ...string) (bool, string) {
	t.Helper()
	args := append([]string{"verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", o.file(t, root)}, flags...)
	if len(between) > 0 {
		args = append(args, "-untrusted", o.file(t, between...))
	}
	out, err := exec.Command(o.path, append(args, o.file(t, leaf))...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err == nil, string(out)
}

// chain judges a chain in our form: a renewal is good when both it and its
// original are.
func (o openssl) chain(t *testing.T, root []byte, chain [][]byte, flags ...string) (bool, string) {
	t.Helper()
	ok, out := o.verify(t, root, chain[0], chain[1:], flags...)
	if renews, err := IsRenewer(chain[1]); ok && err == nil && renews {
		// The original at a moment of its own life, and under its own issuer only.
		c, err := x509.ParseCertificate(chain[2])
		if err != nil {
			t.Fatal(err)
		}
		return o.verify(t, root, chain[2], chain[3:4], "-attime", at(c.NotAfter.Add(-time.Second)))
	}
	return ok, out
}

func at(when time.Time) string { return strconv.FormatInt(when.Unix(), 10) }

// TestOpenSSLAgreesOnGoodAndBad compares the two verifiers wherever X.509 can
// say what is wrong.
func TestOpenSSLAgreesOnGoodAndBad(t *testing.T) {
	o := newOpenSSL(t)
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	good := p.issue(t, testClaims())
	renewed := p.renew(t, good)
	forged := func(change func(*x509.Certificate)) [][]byte { return p.chain(p.forge(t, p.issuer, change)) }
	underRenewer := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{p.forge(t, p.renewer, change), p.renewer.Cert(), good[0], good[1]}
	}
	tampered := func(chain [][]byte, i int) [][]byte {
		chain = slices.Clone(chain)
		chain[i] = bytes.Clone(chain[i])
		chain[i][len(chain[i])-1] ^= 1
		return chain
	}
	node, err := x509.ParseCertificate(good[0])
	if err != nil {
		t.Fatal(err)
	}
	sub := authority("lab mesh issuer sub", testNow.Add(-Backdate), testNow.Add(IssuerLife), prefixOf(t, p.issuer.cert), testMesh)
	sub.MaxPathLenZero = true
	subDER, err := sign(sub, p.issuer.cert, public(seeded(7)), p.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	subordinate := &Signer{cert: parsed(t, subDER), key: seeded(7)}

	for _, tt := range []struct {
		name  string
		chain [][]byte
		now   time.Time // zero: testNow
		want  bool      // accepted, at that time
		apart bool      // accepted but for the time
	}{
		{name: "original", chain: good, want: true, apart: true},
		{name: "renewal", chain: renewed, want: true, apart: true},
		{name: "renewal, its original long over", chain: p.renewAt(t, good, testNow.Add(200*24*time.Hour)), now: testNow.Add(210 * 24 * time.Hour), want: true, apart: true},
		// openssl takes not-after itself for over; RFC 5280, section 4.1.2.5, and we do not.
		{name: "last second but one", chain: good, now: testNow.Add(NodeLife - time.Second), want: true, apart: true},
		{name: "expired", chain: good, now: testNow.Add(NodeLife + time.Second), apart: true},
		{name: "not yet valid", chain: good, now: testNow.Add(-Backdate - time.Second), apart: true},
		{name: "renewal expired", chain: renewed, now: testNow.Add(NodeLife + time.Second), apart: true},
		{name: "outside the block", chain: forged(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 0, 2)} })},
		{name: "outside the mesh", chain: forged(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })},
		{name: "an IPv6 address", chain: forged(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("fd00::1")} })},
		{name: "outside the domain", chain: forged(func(c *x509.Certificate) { c.DNSNames = []string{"gpu-1.example.com"} })},
		{name: "URI of another mesh", chain: forged(func(c *x509.Certificate) { c.URIs[0].Host = "prod" })},
		{name: "renewal outside the mesh", chain: underRenewer(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })},
		{name: "renewal outside the domain", chain: underRenewer(func(c *x509.Certificate) { c.DNSNames = []string{"gpu-1.example.com"} })},
		{name: "wrong root", chain: other.issue(t, testClaims())},
		{name: "issuer of another root", chain: [][]byte{good[0], other.issuer.Cert()}},
		{name: "renewer of another root", chain: other.renew(t, good)},
		{name: "original under another root", chain: p.renew(t, other.issue(t, testClaims()))},
		{name: "path length violated", chain: [][]byte{p.forge(t, subordinate, func(*x509.Certificate) {}), subDER, p.issuer.Cert()}},
		{name: "signed by a node", chain: [][]byte{p.forge(t, &Signer{cert: node, key: seeded(1)}, func(*x509.Certificate) {}), good[0], good[1]}},
		{name: "a CA as a node", chain: forged(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })},
		{name: "another use", chain: forged(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
		{name: "unknown critical extension", chain: forged(func(c *x509.Certificate) {
			c.ExtraExtensions[0].Id, c.ExtraExtensions[0].Critical = asn1.ObjectIdentifier{1, 2, 3}, true
		})},
		{name: "node tampered with", chain: tampered(good, 0)},
		{name: "issuer tampered with", chain: tampered(good, 1)},
		{name: "renewal tampered with", chain: tampered(renewed, 0)},
		{name: "renewer tampered with", chain: tampered(renewed, 1)},
		{name: "original tampered with", chain: tampered(renewed, 2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := tt.now
			if now.IsZero() {
				now = testNow
			}
			id, _, err := Verify(tt.chain, p.roots, "lab", now)
			if (err == nil) != tt.want || (id.ID != "") != tt.apart {
				t.Errorf("we say %v (identity %q)", err, id.ID)
			}
			if ok, out := o.chain(t, p.root.Cert(), tt.chain, "-attime", at(now)); ok != tt.want {
				t.Errorf("openssl says %v, want %v:\n%s", ok, tt.want, out)
			}
			if ok, out := o.chain(t, p.root.Cert(), tt.chain, "-no_check_time"); ok != tt.apart {
				t.Errorf("openssl says %v but for the time, want %v:\n%s", ok, tt.apart, out)
			}
		})
	}
}

func TestOpenSSLAgreesAfterRotation(t *testing.T) {
	o := newOpenSSL(t)
	p := newPKI(t, testMesh)
	chain := p.renew(t, p.issue(t, testClaims()))
	next := p.successor(t, testNow.Add(100*24*time.Hour))
	later := testNow.Add(101 * 24 * time.Hour)
	for _, i := range []int{1, 3} {
		var err error
		if chain[i], err = Recertify(next.root, chain[i], later); err != nil {
			t.Fatal(err)
		}
	}
	// Original and renewal were over before the new root was made.
	if ok, out := o.chain(t, next.root.Cert(), chain, "-attime", at(testNow.Add(time.Hour))); !ok {
		t.Error(out)
	}
	if _, _, err := Verify(chain, next.roots, "lab", testNow.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if ok, _ := o.chain(t, p.root.Cert(), chain, "-attime", at(testNow.Add(time.Hour))); ok {
		t.Error("openssl still believes the old root")
	}
	if _, _, err := Verify(chain, p.roots, "lab", testNow.Add(time.Hour)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("we still believe the old root: %v", err)
	}
}

func TestOpenSSLPrints(t *testing.T) {
	o := newOpenSSL(t)
	p := newPKI(t, testMesh)
	for _, tt := range []struct {
		name string
		cert []byte
		want []string
	}{
		{"node", p.issue(t, testClaims())[0], []string{
			"ED25519", "Issuer: CN = lab mesh issuer gw-b", "Subject: CN = gpu-1", "CA:FALSE", "TLS Web Client Authentication, TLS Web Server Authentication",
			"DNS:gpu-1.lab.mesh", "IP Address:10.86.16.2", "URI:spiffe://lab/site/idc-seoul/server/gpu-1", oidWireGuard.String(),
			"Not Before: Mar  1 11:55:00 2026 GMT", "Not After : Mar 31 12:00:00 2026 GMT",
		}},
		{"issuer", p.issuer.Cert(), []string{"Subject: CN = lab mesh issuer gw-b", "CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "IP:10.86.16.0/255.255.240.0", "DNS:lab.mesh", "URI:lab"}},
		{"renewer", p.renewer.Cert(), []string{"Subject: CN = lab mesh renewer gw-c", "CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "IP:10.86.0.0/255.255.0.0", "DNS:lab.mesh", "URI:lab", oidRenewer.String()}},
		{"root", p.root.Cert(), []string{"CA:TRUE, pathlen:1", "IP:10.86.0.0/255.255.0.0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.Command(o.path, "x509", "-noout", "-text", "-in", o.file(t, tt.cert)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("openssl does not print %q:\n%s", want, out)
				}
			}
		})
	}
}
